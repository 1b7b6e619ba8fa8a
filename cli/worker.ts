/** @file `epsilonflow worker`: runs a worker in the foreground. `run` starts one in the background by itself. */

import { type Command, InvalidArgumentError } from 'commander';
import { action, printLine } from './output.ts';

export function workerCommand(program: Command): void {
  program
    .command('worker')
    .description('Run a worker in the foreground: it does the work of runs until it is stopped (Ctrl-C).')
    .option('--queues <names>', 'comma-separated queues to serve: control, cpu', parseQueues, ['control', 'cpu'])
    .option('--jobs <count>', 'jobs of the cpu queue at a time; each uses all cores', parseCount, 1)
    .addHelpText('after', '\nExample: epsilonflow worker --jobs 1')
    .action(
      action(async (options: { queues: ('control' | 'cpu')[]; jobs: number }) => {
        const { runWorker } = await import('../stack/worker.ts');
        const { recordThisWorker } = await import('../stack/worker-process.ts');
        await runWorker({
          ...options,
          onReady: ({ address, namespace, recovered }) => {
            void recordThisWorker({ address, namespace, queues: options.queues });
            const took = recovered.length > 0 ? ` Goes on with what a dead worker left: ${recovered.join(', ')}.` : '';
            printLine(
              `${new Date().toISOString()} worker ready at ${address}, queues ${options.queues.join(', ')}.${took}`,
            );
          },
        });
      }),
    );
}

function parseQueues(text: string): ('control' | 'cpu')[] {
  const names = text.split(',').map((name) => name.trim());
  return names.map((name) => {
    if (name === 'control' || name === 'cpu') return name;
    throw new InvalidArgumentError(`"${name}" is no queue; there are control and cpu.`);
  });
}

function parseCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1) throw new InvalidArgumentError('It must be a whole number from 1 on.');
  return count;
}
