/** @file `epsilonflow down`: stops the local worker and services; nothing they hold is lost. */

import type { Command } from 'commander';
import { action, printJson, printLine } from './output.ts';

export function downCommand(program: Command): void {
  program
    .command('down')
    .description('Stop the local worker and servers. Runs that are under way go on when they are started again.')
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExample:\n  epsilonflow down')
    .action(
      action(async ({ json }: { json?: boolean }) => {
        const { stopServices } = await import('../stack/services.ts');
        const { stopWorker } = await import('../stack/worker-process.ts');
        // The worker first: without its server it would only complain.
        const worker = (await stopWorker()) ? ['worker'] : [];
        const stopped = [...worker, ...(await stopServices())];
        if (json) printJson({ stopped });
        else printLine(stopped.length === 0 ? 'Nothing was running.' : `Stopped: ${stopped.join(', ')}.`);
      }),
    );
}
