/** @file `epsilonflow publish`: sends a run to MLflow, now or again. */

import type { Command } from 'commander';
import { EpsilonflowError } from '../schemas/errors.ts';
import { withRun } from './open-run.ts';
import { action, printJson, printLine } from './output.ts';

async function publish(reference: string, { json }: { json?: boolean }): Promise<void> {
  const { writeReport } = await import('../tracking/report.ts');
  const { publishRun } = await import('../tracking/publish.ts');
  const { writeDurably } = await import('../store/disk.ts');
  const { linksFile } = await import('../activities/worker-parts.ts');
  const { ensureMlflow } = await import('../stack/services.ts');
  const { resolveRun } = await import('../tracking/runs.ts');
  // Before a server is started for a run that there is not.
  resolveRun(reference);
  const mlflow = await ensureMlflow();
  if (mlflow === null) {
    throw new EpsilonflowError(
      'ARGUMENT_INVALID',
      'MLFLOW_TRACKING_URI is "none": there is no tracker to publish to.',
      {
        hint: 'Unset it to use the local server, or give the address of yours.',
      },
    );
  }
  const links = await withRun(reference, async ({ run, plan, store, ledger }) => {
    // The report goes along, as of now.
    await writeReport(run.directory, plan, { store, ledger: () => Promise.resolve(ledger) });
    const published = await publishRun(run.directory, plan, store, mlflow.uri);
    // Where `epsilonflow status` finds the address.
    await writeDurably(linksFile(run.directory), JSON.stringify(published, null, 2) + '\n');
    return published;
  });
  if (json) printJson(links);
  else printLine(links.run);
}

export function publishCommand(program: Command): void {
  program
    .command('publish')
    .description('Send a run to MLflow. Repeating it sends only what is missing and doubles nothing.')
    .argument('<run>', 'NAME/NUMBER, NAME or latest')
    .option('--json', 'print the addresses of experiment, run and instances')
    .addHelpText('after', '\nExample:\n  epsilonflow publish latest')
    .action(action(publish));
}
