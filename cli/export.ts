/** @file `epsilonflow export`: writes the evidence of a run as a folder that others can verify. */

import type { Command } from 'commander';
import { withRun } from './open-run.ts';
import { action, printJson, printLine, shortPath, styled } from './output.ts';

interface ExportOptions {
  to: string;
  json?: boolean;
}

async function exportRun(reference: string, { to, json }: ExportOptions): Promise<void> {
  const { gatherEvidence } = await import('../tracking/evidence/gather.ts');
  const { writeBundle } = await import('../tracking/evidence/bundle.ts');
  const files = await writeBundle(await withRun(reference, gatherEvidence), to);
  if (json) {
    printJson({ directory: to, files });
    return;
  }
  printLine(styled('bold', shortPath(to)));
  for (const file of files) printLine(`  ${file}`);
  printLine(`Whoever has it can check it with: epsilonflow verify ${shortPath(to)}`);
}

export function exportCommand(program: Command): void {
  program
    .command('export')
    .description('Write the evidence of a run to a folder: spec, plan, ledger rows with proofs, privacy statement.')
    .argument('<run>', 'NAME/NUMBER, NAME or latest')
    .requiredOption('--to <folder>', 'folder to make')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      '\nIt holds no records, no results and nothing that derives from private data other than through DP.\n\n' +
        'Example:\n  epsilonflow export latest --to evidence/quickstart',
    )
    .action(action(exportRun));
}
