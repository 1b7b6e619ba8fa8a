/** @file `epsilonflow report`: writes the report of a run and says where it is. */

import { spawn } from 'node:child_process';
import type { Command } from 'commander';
import { withRun } from './open-run.ts';
import { action, printJson, printLine } from './output.ts';

async function report(reference: string, { open, json }: { open?: boolean; json?: boolean }): Promise<void> {
  const { writeReport } = await import('../tracking/report.ts');
  const written = await withRun(reference, ({ run, plan, store, ledger }) =>
    writeReport(run.directory, plan, { store, ledger: () => Promise.resolve(ledger) }),
  );
  if (json) printJson(written);
  else printLine(written.html);
  if (open) openInBrowser(written.html);
}

/** The desktop's own way; a machine without one has the path on its terminal. */
function openInBrowser(path: string): void {
  const viewer = spawn('xdg-open', [path], { stdio: 'ignore', detached: true });
  viewer.on('error', () => process.stderr.write('There is no xdg-open here to show the report with.\n'));
  viewer.unref();
}

export function reportCommand(program: Command): void {
  program
    .command('report')
    .description('Write the report of a run as one HTML page, with a Markdown version beside it.')
    .argument('<run>', 'NAME/NUMBER, NAME or latest')
    .option('--open', 'show it in the browser')
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExample:\n  epsilonflow report latest --open')
    .action(action(report));
}
