/** @file `epsilonflow release`: writes a synthetic set, or a model, as a folder that one can hand over. */

import type { Command } from 'commander';
import { withRun } from './open-run.ts';
import { action, printJson, printLine, shortPath, styled } from './output.ts';

interface ReleaseOptions {
  to: string;
  withAdapter?: boolean;
  json?: boolean;
}

async function release(reference: string, instance: string, options: ReleaseOptions): Promise<void> {
  const { releaseInstance } = await import('../tracking/release.ts');
  const { guarantee } = await import('../tracking/statement.ts');

  const { to, withAdapter, json } = options;
  const released = await withRun(reference, (opened) =>
    releaseInstance({ ...opened, instance, to, ...(withAdapter && { withAdapter }) }),
  );
  if (json) {
    printJson(released);
    return;
  }
  printLine(
    `${styled('bold', shortPath(released.directory))}${released.unchanged ? '  was there already, with the same content' : ''}`,
  );
  for (const file of released.files) printLine(`  ${file}`);
  printLine();
  for (const dataset of released.datasets) printLine(guarantee(dataset));
  if (released.datasets.length === 0) printLine('Nothing in it derives from data that is not public.');
}

export function releaseCommand(program: Command): void {
  program
    .command('release')
    .description('Write a synthetic set, an adapter or a model of a run to a folder, with its privacy statement.')
    .argument('<run>', 'NAME/NUMBER, NAME or latest')
    .argument('<instance>', 'id of an instance, or as much of it as is unique: "synthetic[epsilon=8]"')
    .requiredOption('--to <folder>', 'folder to make')
    .option('--with-adapter', 'put the adapter that wrote the synthetic set beside it')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      '\nRefuses (exit code 3) what is not labelled dp or public.\n\n' +
        'Example:\n  epsilonflow release latest "synthetic[dataset=speeches,epsilon=8]" --to released/speeches',
    )
    .action(action(release));
}
