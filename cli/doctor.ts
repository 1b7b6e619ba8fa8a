/** @file `epsilonflow doctor`: each part's version and state, and what to do about what is wrong. */

import type { Command } from 'commander';
import type { PartReport } from '../stack/inspection.ts';
import { action, exitCodes, formatTable, printJson, printLine, styled } from './output.ts';

const colours = { ready: 'green', stopped: 'dim', broken: 'red' } as const;

export function doctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('Check every part of the installation and the services; exit code 4 when something is broken.')
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExample:\n  epsilonflow doctor')
    .action(
      action(async ({ json }: { json?: boolean }) => {
        const { inspectParts } = await import('../stack/inspection.ts');
        const reports = await inspectParts();
        const broken = reports.filter(({ state }) => state === 'broken');
        if (json) printJson({ healthy: broken.length === 0, parts: reports });
        else printReports(reports);
        return broken.length === 0 ? exitCodes.fine : exitCodes.unreachable;
      }),
    );
}

function printReports(reports: PartReport[]): void {
  const rows = reports.map(({ title, state, version, detail }) => [
    title,
    styled(colours[state], state),
    version,
    detail,
  ]);
  printLine(formatTable(['part', 'state', 'version', 'detail'], rows));
  for (const { title, remedy } of reports) {
    if (remedy !== null) printLine(`\n${title}: ${remedy}`);
  }
}
