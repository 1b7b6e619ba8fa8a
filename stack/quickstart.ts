/** @file What `npm run quickstart` does after set-up: the main job, its table, and a released synthetic data set. */

import { spawn } from 'node:child_process';
import { readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import type { Plan, PlanNode } from '../schemas/plan.ts';
import { openStore } from '../store/index.ts';
import { resultTable } from '../tracking/report.ts';
import { packageRoot, stateRoot } from './paths.ts';

/** What `epsilonflow run --json` prints, as far as it is used here. */
interface RunOutcome {
  run: string;
  planDigest: string;
  directory: string;
  counts: { nodes: number; completed: number; reused: number };
  links: { temporal: string | null; mlflow: string | null; report: string | null };
  errors: { code: string; message: string; hint: string | null }[];
}

const spec = join('experiments', 'quickstart.yaml');
const started = Date.now();

/** Runs an `epsilonflow` command; its progress goes to the terminal, its JSON comes back. */
function command(parameters: string[]): Promise<{ code: number; output: string }> {
  console.error(
    `\n$ npx epsilonflow ${parameters.map((word) => (/[[\] ]/.test(word) ? `"${word}"` : word)).join(' ')}`,
  );
  return new Promise((resolve, reject) => {
    const cli = join(packageRoot, 'cli', 'epsilonflow.mjs');
    const child = spawn(process.execPath, [cli, ...parameters, '--json'], {
      cwd: packageRoot,
      stdio: ['inherit', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code: code ?? 1, output }));
  });
}

/** The synthetic set to release: of those that may leave, the one for `speeches` at epsilon 8, else the first. */
function releasable(plan: Plan): PlanNode | undefined {
  const sets = plan.nodes.filter(({ kind, label }) => kind === 'generate' && label === 'dp');
  return sets.find(({ axes }) => axes['dataset'] === 'speeches' && String(axes['epsilon']) === '8') ?? sets[0];
}

/** Points `released/quickstart` at this set, for `experiments/released.yaml`; a reader never sees it missing. */
function nameAsLatest(target: string): void {
  const draft = join(dirname(target), `.quickstart.${process.pid}`);
  rmSync(draft, { force: true });
  symlinkSync(basename(target), draft);
  renameSync(draft, join(dirname(target), 'quickstart'));
}

/** Some rows of a released set, two of each label. */
function sampleRows(directory: string): string[] {
  const rows = readFileSync(join(directory, 'synthetic.jsonl'), 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { text: string; label: string });
  const labels = [...new Set(rows.map(({ label }) => label))].sort();
  return labels.flatMap((label) =>
    rows
      .filter((row) => row.label === label)
      .slice(0, 2)
      .map(({ text }) => `  ${label}: ${text.length > 100 ? `${text.slice(0, 99)}…` : text}`),
  );
}

function printErrors(output: string): void {
  const { errors } = JSON.parse(output) as Pick<RunOutcome, 'errors'>;
  for (const { code, message, hint } of errors) {
    console.error(`error ${code}: ${message}${hint === null ? '' : `\n  hint: ${hint}`}`);
  }
}

async function quickstart(options: string[]): Promise<number> {
  const ran = await command(['run', spec, ...options]);
  // Detached by Ctrl-C: the run goes on in the background, and `run` has said how to come back to it.
  if (ran.code === 0 && ran.output.trim() === '') return 0;
  const outcome = ran.output.trim() === '' ? null : (JSON.parse(ran.output) as Partial<RunOutcome>);
  if (ran.code !== 0 || outcome?.run === undefined) {
    if (outcome !== null) printErrors(ran.output);
    return ran.code === 0 ? 1 : ran.code;
  }
  const { run, counts, links, directory, planDigest } = outcome as RunOutcome;
  const store = openStore();
  const plan = await store.loadPlan(planDigest);
  const table = await resultTable(directory, plan, store);

  const chosen = releasable(plan);
  let released: string | null = null;
  if (chosen !== undefined) {
    const target = join(stateRoot(), 'released', run.replace('/', '-'));
    const release = await command(['release', run, chosen.id, '--to', target]);
    if (release.code !== 0) {
      printErrors(release.output);
      return release.code;
    }
    nameAsLatest(target);
    released = target;
  }

  const shown = (path: string): string => (path.startsWith(packageRoot) ? relative(process.cwd(), path) : path);
  const seconds = Math.round((Date.now() - started) / 1000);
  const time = seconds < 120 ? `${seconds} s` : `${(seconds / 60).toFixed(1)} minutes`;
  console.log(`\n${table}\n`);
  if (released !== null) console.log(`Rows of the released set ${chosen!.id}:\n${sampleRows(released).join('\n')}\n`);
  const reused = counts.reused === 0 ? '' : `, ${counts.reused} of them reused from earlier runs`;
  console.log(`${run}: ${counts.completed} of ${counts.nodes} instances done${reused}, in ${time}`);
  if (links.report !== null) console.log(`Report    ${shown(links.report)}`);
  if (released !== null) console.log(`Released  ${shown(released)}`);
  console.log(`MLflow    ${links.mlflow ?? 'not published yet: run "npx epsilonflow publish latest"'}`);
  console.log(`Temporal  ${links.temporal ?? 'its server shows no pages'}`);
  console.log('\nThe servers stay up for these pages; "npx epsilonflow down" stops them.');
  return 0;
}

process.exitCode = await quickstart(process.argv.slice(2));
