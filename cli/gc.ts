/** @file `epsilonflow gc`: removes runs beyond the newest ones, and results and plans that no run refers to. */

import type { Command } from 'commander';
import type { RunFolder } from '../tracking/runs.ts';
import type { Garbage, Store, Wanted } from '../store/index.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { mayLeave } from '../tracking/door.ts';
import { fileSize } from '../tracking/wording.ts';
import { action, printJson, printLine } from './output.ts';

interface SharedCheckpoint {
  id: string;
  bytes: number;
}

type StoredResult = Garbage['results'][number];

/** What is told of a result; null for a size that could tell of private records. */
interface ToldResult extends Pick<StoredResult, 'key' | 'manifest'> {
  bytes: number | null;
}

interface ToldGarbage extends Pick<Garbage, 'plans'> {
  results: ToldResult[];
  keptPaid: ToldResult[];
}

interface GcOptions {
  keepLast?: string;
  paid?: boolean;
  dryRun?: boolean;
  json?: boolean;
}

export function gcCommand(program: Command): void {
  program
    .command('gc')
    .description('Remove stored results that no run refers to. What is private leaves the disk; no budget comes back.')
    .option('--keep-last <n>', 'also remove ended runs, but for the newest n of each experiment')
    .option('--paid', 'also results that spent privacy: to make them again is charged again')
    .option('--dry-run', 'show what would be removed, and remove nothing')
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExample:\n  epsilonflow gc --keep-last 3 --dry-run')
    .action(action(gc));
}

async function gc({ keepLast, paid = false, dryRun = false, json }: GcOptions): Promise<void> {
  const { openStore, findGarbage, removeGarbage } = await import('../store/index.ts');
  const { listRuns, removeRun } = await import('../tracking/runs.ts');
  const store = openStore();
  const dropped = keepLast === undefined ? [] : await endedBeyond(countOf(keepLast));
  const wanted = (): Promise<Wanted> => wantedBy(store, new Set(dropped.map(({ directory }) => directory)));
  const garbage = await findGarbage(store, await wanted(), { paid });
  const checkpoints = await endedCheckpoints(store);
  if (!dryRun) {
    // Runs first: interrupted after that, the next call finds what they alone referred to.
    for (const { directory } of dropped) removeRun(directory);
    await store.runs.forgetBut(listRuns().map(({ record }) => record));
    const { whileNoneStarts } = await import('./start-run.ts');
    await whileNoneStarts('removing what no run refers to', () => removeGarbage(store, garbage, wanted));
    for (const { id } of await endedCheckpoints(store)) await store.checkpoints?.drop(id);
    await removeSharedLogs(store);
  }
  const { removeStepLogs } = await import('../activities/step-log.ts');
  const isDropped = (directory: string): boolean => dropped.some((run) => run.directory === directory);
  const present = (): Set<string> =>
    new Set(listRuns().flatMap(({ directory, record }) => (isDropped(directory) ? [] : [nameOf(record)])));
  const logs = await removeStepLogs(present, dryRun);
  const runs = dropped.map(({ record }) => nameOf(record));
  const told = toldOf(garbage);
  if (json) printJson({ ...summary(runs, told, !dryRun), checkpoints, logs });
  else printGarbage(runs, { ...told, checkpoints }, dryRun);
}

function toldOf({ results, plans, keptPaid }: Garbage): ToldGarbage {
  const told = ({ key, manifest, bytes }: StoredResult): ToldResult => ({
    key,
    manifest,
    bytes: manifest !== null && mayLeave(manifest) ? bytes : null,
  });
  return { results: results.map(told), plans, keptPaid: keptPaid.map(told) };
}

/** Checkpoints in a shared store that no run which goes on may need, on whatever host. */
async function endedCheckpoints({ checkpoints, runs, loadPlan }: Store): Promise<SharedCheckpoint[]> {
  if (checkpoints === null) return [];
  const listed = await checkpoints.list();
  const { listRuns } = await import('../tracking/runs.ts');
  const { summaryOf } = await import('./run-outcome.ts');
  const registered = await runs.all();
  const ended = new Set(registered.filter((run) => run.ended).map(nameOf));
  const here = listRuns().filter(({ directory, record }) => {
    return !ended.has(nameOf(record)) && summaryOf(directory).status === 'running';
  });
  const open = [...here.map(({ record }) => record), ...(await runs.elsewhere()).filter((run) => !run.ended)];
  const needed = new Set<string>();
  for (const digest of new Set(open.map(({ planDigest }) => planDigest))) {
    // A run whose plan is gone can't be gone on with.
    const plan = await loadPlan(digest).catch(nullIfGone);
    for (const { key } of plan?.nodes ?? []) needed.add(key.slice(0, 32));
  }
  return listed.filter(({ id }) => !needed.has(id.slice(0, 32)));
}

/** What hosts told each other of runs that no host has any more. */
async function removeSharedLogs({ logs, runs }: Store): Promise<void> {
  if (logs === null) return;
  const listed = await logs.runs();
  const { listRuns } = await import('../tracking/runs.ts');
  const known = new Set([...listRuns().map(({ record }) => record), ...(await runs.all())].map(nameOf));
  for (const run of listed) {
    const [name = '', number = ''] = run.split('/');
    if (!known.has(run)) await logs.remove({ name, number: Number(number) });
  }
}

const nameOf = ({ name, number }: { name: string; number: number }): string => `${name}/${number}`;

function countOf(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1) return count;
  throw new EpsilonflowError('ARGUMENT_INVALID', `--keep-last is a number of runs from 1, not ${text}.`, {
    hint: 'The newest run of an experiment always stays.',
  });
}

/** Runs that have ended and are not among the newest of their experiment. */
async function endedBeyond(kept: number): Promise<RunFolder[]> {
  const { listRuns } = await import('../tracking/runs.ts');
  const { summaryOf } = await import('./run-outcome.ts');
  const seen = new Map<string, number>();
  return listRuns()
    .sort((a, b) => b.record.number - a.record.number)
    .filter(({ record: { name } }) => {
      seen.set(name, (seen.get(name) ?? 0) + 1);
      return seen.get(name)! > kept;
    })
    .filter(({ directory }) => summaryOf(directory).status !== 'running');
}

/** What the plans of all runs but those in the given folders name, runs of other hosts that share the store included. */
async function wantedBy({ loadPlan, runs }: Store, without: ReadonlySet<string>): Promise<Wanted> {
  const { listRuns } = await import('../tracking/runs.ts');
  const keys = new Set<string>();
  const plans = new Set<string>();
  const here = listRuns().filter(({ directory }) => !without.has(directory));
  for (const { planDigest } of [...here.map(({ record }) => record), ...(await runs.elsewhere())]) {
    if (plans.has(planDigest)) continue;
    plans.add(planDigest);
    // A run whose plan is gone can't be gone on with; which results were its, nobody knows.
    const plan = await loadPlan(planDigest).catch(nullIfGone);
    for (const { key } of plan?.nodes ?? []) keys.add(key);
  }
  return { keys, plans };
}

function nullIfGone(error: unknown): null {
  if (error instanceof EpsilonflowError && (error.code === 'PLAN_MISSING' || error.code === 'PLAN_ALTERED'))
    return null;
  throw error;
}

/** Of those whose size is told. */
const bytesOf = (entries: readonly { bytes: number | null }[]): number =>
  entries.reduce((sum, { bytes }) => sum + (bytes ?? 0), 0);

const sizeOf = (bytes: number | null): string => (bytes === null ? 'whose size is not told' : fileSize(bytes));

function sizesOf(entries: readonly { bytes: number | null }[]): string {
  const untold = entries.filter(({ bytes }) => bytes === null).length;
  return fileSize(bytesOf(entries)) + (untold === 0 ? '' : ` and ${counted(untold, 'result')} whose size is not told`);
}

const summary = (runs: readonly string[], { results, plans, keptPaid }: ToldGarbage, removed: boolean): object => ({
  removed,
  runs,
  results: results.map(({ key, manifest, bytes }) => ({ key, instance: manifest?.nodeId ?? null, bytes })),
  plans: plans.map(({ digest }) => digest),
  bytes: bytesOf(results) + bytesOf(plans),
  keptPaid: keptPaid.map(({ key, manifest, bytes }) => ({ key, instance: manifest?.nodeId ?? null, bytes })),
});

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

function printGarbage(
  runs: readonly string[],
  { results, plans, keptPaid, checkpoints }: ToldGarbage & { checkpoints: SharedCheckpoint[] },
  dryRun: boolean,
): void {
  for (const run of runs) printLine(`  run     ${run}`);
  for (const { key, manifest, bytes } of results) {
    printLine(`  result  ${manifest?.nodeId ?? `${key.slice(0, 12)} (damaged)`}, ${sizeOf(bytes)}`);
  }
  for (const { id, bytes } of checkpoints) {
    printLine(`  checkpoints of step ${id.slice(0, 12)} of a run that has ended, ${fileSize(bytes)}`);
  }
  const what = [counted(runs.length, 'run'), counted(results.length, 'result'), counted(plans.length, 'plan')];
  if (checkpoints.length > 0) what.push(`checkpoints of ${counted(checkpoints.length, 'step')}`);
  const total = sizesOf([...results, ...plans, ...checkpoints]);
  printLine(`${dryRun ? 'Would remove' : 'Removed'} ${what.join(', ')}: ${total}.`);
  if (keptPaid.length === 0) return;
  printLine(
    `Kept ${counted(keptPaid.length, 'result')} that spent privacy (${sizesOf(keptPaid)}): ` +
      'to make them again is charged again. --paid removes them.',
  );
}
