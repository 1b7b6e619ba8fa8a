/** @file `epsilonflow down`: stops the local services; nothing they hold is lost. */

import type { Command } from 'commander';
import { action, printJson, printLine } from './output.ts';

export function downCommand(program: Command): void {
  program
    .command('down')
    .description('Stop the local servers. Runs that are under way go on when they are started again.')
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExample:\n  epsilonflow down')
    .action(
      action(async ({ json }: { json?: boolean }) => {
        const { stopServices } = await import('../stack/services.ts');
        const stopped = await stopServices();
        if (json) printJson({ stopped });
        else printLine(stopped.length === 0 ? 'Nothing was running.' : `Stopped: ${stopped.join(', ')}.`);
      }),
    );
}
