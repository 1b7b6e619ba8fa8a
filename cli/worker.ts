/** @file `epsilonflow worker`: runs a worker in the foreground. `run` starts one in the background by itself. */

import { type Command, InvalidArgumentError } from 'commander';
import type { Plan } from '../schemas/plan.ts';
import { device } from '../stack/setup/device.mjs';
import { taskQueues } from '../workflows/task-queues.ts';
import { parseCount } from './arguments.ts';
import { action, printJson, printLine } from './output.ts';

type QueueName = keyof typeof taskQueues;

interface WorkerFlags {
  queues: QueueName[];
  jobs: number;
  data?: string[];
  deployment?: string;
  json?: boolean;
}

export function workerCommand(program: Command): void {
  program
    .command('worker')
    .description('Run a worker in the foreground: it does the work of runs until it is stopped (Ctrl-C).')
    .option('--queues <names>', 'comma-separated queues to serve: control, cpu, gpu', parseQueues, usualQueues())
    .option('--jobs <count>', 'jobs at a time, of cpu and of gpu; each uses all cores', parseCount, 1)
    .option('--data <specs...>', 'specs whose data and models are on this machine: it does steps on these private data')
    .option('--deployment <name>', 'as a version of this worker deployment: runs stay with the version that began them')
    .option('--json', 'say as one JSON object that it is ready')
    .addHelpText('after', '\nExample:\n  epsilonflow worker --queues cpu --data experiments/reviews.yaml')
    .action(action(work));
}

async function work({ data = [], json, ...settings }: WorkerFlags): Promise<void> {
  const { runWorker } = await import('../stack/worker.ts');
  const { recordThisWorker } = await import('../stack/worker-process.ts');
  await runWorker({
    ...settings,
    data: await compileHere(data),
    onReady: ({ address, namespace, queues, recovered }) => {
      void recordThisWorker({ address, namespace, queues: settings.queues });
      if (json) return printJson({ address, namespace, queues, recovered });
      const took = recovered.length > 0 ? ` Goes on with what a dead worker left: ${recovered.join(', ')}.` : '';
      printLine(`${new Date().toISOString()} worker ready at ${address}, queues ${queues.join(', ')}.${took}`);
    },
  });
}

/** Paths are those of this machine then, and digests say what lies there. */
async function compileHere(specs: readonly string[]): Promise<Plan[]> {
  if (specs.length === 0) return [];
  const { compileSpec } = await import('../compiler/index.ts');
  const { offlineHost } = await import('./compile-host.ts');
  const plans: Plan[] = [];
  for (const file of specs) plans.push(await compileSpec({ file }, offlineHost()));
  return plans;
}

/** A machine with a card serves what asks for one. */
const usualQueues = (): QueueName[] => (device === 'gpu' ? ['control', 'cpu', 'gpu'] : ['control', 'cpu']);

function parseQueues(text: string): QueueName[] {
  const known = Object.keys(taskQueues) as QueueName[];
  return text.split(',').map((part) => {
    const found = known.find((name) => name === part.trim());
    if (found) return found;
    throw new InvalidArgumentError(`"${part.trim()}" is no queue; there are ${known.join(', ')}.`);
  });
}
