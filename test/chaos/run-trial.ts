/** @file One chaos trial: experiments on one account in processes that are killed, and what the ledger says at its end. */

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { openLedger } from '../../privacy/ledger/index.ts';
import { jsonDigest } from '../../schemas/canonical-json.ts';
import type { Plan } from '../../schemas/plan.ts';
import { PlanFolder } from '../../store/plans.ts';
import { ArtifactStore } from '../../store/index.ts';
import type { TestDatabase } from '../privacy/ledger-databases.ts';
import { workflowIdOf, type Life, type LifeEnd } from './life.ts';
import { nodesOf, planWith } from './made-up-plan.ts';
import type { ProcessPool, Sleeper } from './processes.ts';
import { compareWithLedger, type Finding, type Witness } from './spending.ts';
import { pairs, type Aftermath, type Death, type Trial, type TrialExperiment } from './trials.ts';

export interface TrialResult extends Finding {
  /** Boundaries that a process was killed at. */
  hits: string[];
  /** Processes killed. */
  deaths: number;
  ends: string[];
  /** Boundaries that processes which ended by themselves reached, and how often; of the last of each experiment. */
  reached: Record<string, number>[];
}

/** What a death at no particular boundary counts as. */
export const anywhere = 'at any moment';
/** Processes that stood still and woke when others had gone on. */
export const asleep = 'not killed, but asleep';

interface Scene {
  folder: string;
  home: string;
  store: ArtifactStore;
  ledgerUrl: string;
  plan: Plan;
  pool: ProcessPool;
  result: TrialResult;
  /** Content by key and payers, as first seen. */
  published: Map<string, string>;
  /** Experiments that share nodes replace each other's results. */
  sharesNodes: boolean;
}

/** @param unit epsilon that a trial's budget counts in */
export async function runTrial(
  trial: Trial,
  database: TestDatabase,
  pool: ProcessPool,
  unit: number,
): Promise<TrialResult> {
  const folder = mkdtempSync(join(tmpdir(), 'chaos-'));
  const home = join(folder, 'home');
  const store = new ArtifactStore({ shared: join(home, 'store', 'shared'), private: join(home, 'store', 'private') });
  const plan = planWith(trial.budget * unit, pairs);
  const ledgerUrl = await database.fresh();
  const result: TrialResult = {
    ...{ spent: 0, charged: 0, underCounted: 0, overCounted: 0, problems: [] },
    ...{ hits: [], deaths: 0, ends: [], reached: [] },
  };
  const sharesNodes = new Set(trial.experiments.map(({ pair }) => pair)).size < trial.experiments.length;
  const scene: Scene = { folder, home, store, ledgerUrl, plan, pool, result, published: new Map(), sharesNodes };
  try {
    await new PlanFolder(join(home, 'plans')).save(plan);
    mkdirSync(join(folder, 'logs'));
    const gates = trial.experiments.map(() => openGate());
    const witnesses = await Promise.all(
      trial.experiments.map(async (experiment, place) => {
        if (experiment.waits) await gates[1 - place]!.opened;
        return liveThrough(scene, experiment, gates[place]!.open).finally(gates[place]!.open);
      }),
    );
    await examine(scene, witnesses, database);
  } finally {
    await database.drop(ledgerUrl);
    rmSync(folder, { recursive: true, force: true });
  }
  return result;
}

function openGate(): { open: () => void; opened: Promise<void> } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { open, opened };
}

async function liveThrough(scene: Scene, experiment: TrialExperiment, firstEnded: () => void): Promise<Witness> {
  const { result, pool } = scene;
  const witness: Witness = {
    workflowId: workflowIdOf(experiment.name),
    spendingLog: join(scene.folder, 'logs', `${experiment.name}.jsonl`),
    ...{ deaths: 0, ended: false, completed: false, sharesKeys: experiment.runSecret !== null },
  };
  let last: Aftermath = 'go on';
  const sleepers: Promise<unknown>[] = [];
  for (const death of [...experiment.deaths, null]) {
    const life = lifeOf(scene, experiment, witness, last, death);
    const end = await pool.live(life, killing(death));
    firstEnded();
    await look(scene);
    if (end !== null && 'wake' in end) {
      witness.deaths += 1;
      result.hits.push(asleep);
      sleepers.push(wakeLater(end, death!.sleeps!));
      last = death!.then;
      continue;
    }
    if (end !== null) {
      await Promise.all(sleepers);
      await look(scene);
      conclude(scene, experiment, witness, end);
      return witness;
    }
    witness.deaths += 1;
    result.deaths += 1;
    result.hits.push('boundary' in death!.at ? death!.at.boundary : anywhere);
    last = death!.then;
    if (last === 'abandon') {
      await Promise.all(sleepers);
      return witness;
    }
    lose(scene, experiment, last);
  }
  throw new Error(`${experiment.name} was killed by nobody.`);
}

async function wakeLater(sleeper: Sleeper, milliseconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  await sleeper.wake();
}

function lifeOf(
  { folder, home, ledgerUrl, plan }: Scene,
  { name, pair, runSecret, isRemembered }: TrialExperiment,
  { deaths, spendingLog }: Witness,
  last: Aftermath,
  death: Death | null,
): Life {
  return {
    ...{ home, ledgerUrl, spendingLog, runSecret },
    history: isRemembered ? join(folder, 'logs', `${name}-history.json`) : null,
    planDigest: plan.digest,
    experiment: name,
    nodeIds: nodesOf(pair),
    attempt: deaths + 1,
    fromAnotherState: last === 'another state',
    dies: death !== null && 'boundary' in death.at ? { ...death.at, freezes: death.sleeps !== undefined } : null,
  };
}

function killing(death: Death | null): ((kill: () => void) => void) | undefined {
  if (death === null || !('afterMilliseconds' in death.at)) return undefined;
  const { afterMilliseconds } = death.at;
  return (kill) => void setTimeout(kill, afterMilliseconds);
}

function conclude({ result }: Scene, experiment: TrialExperiment, witness: Witness, end: LifeEnd): void {
  const { name, deaths, runSecret } = experiment;
  witness.ended = end.fault === null;
  witness.completed = end.result === 'completed';
  result.ends.push(end.code ?? end.result);
  result.reached.push(end.reached);
  if (end.fault !== null) result.problems.push(`${name}: ${end.fault}`);
  // One that wakes before it has begun becomes the newest attempt: the other is fenced off.
  const mayBeFenced = deaths.some(({ at, sleeps }) => {
    return sleeps !== undefined && 'boundary' in at && at.boundary.startsWith('begin: ');
  });
  if (end.code === 'FENCED' && !mayBeFenced) result.problems.push(`${name} was fenced off by nobody`);
  const mayLoseKey = deaths.some(({ then }) => then === 'lose key' || then === 'lose run state');
  if (end.code === 'NOISE_KEY_LOST' && (!mayLoseKey || runSecret !== null)) {
    result.problems.push(`${name} lost a key that nobody took`);
  }
}

/** Folders in which private steps of a workflow keep keys and checkpoints. */
function workFolders({ home }: Scene, workflowId: string): string[] {
  const root = join(home, 'store', 'private', 'work');
  if (!existsSync(root)) return [];
  return readdirSync(root)
    .map((name) => join(root, name))
    .filter((folder) => {
      const owner = join(folder, 'owner.json');
      return existsSync(owner) && (JSON.parse(readFileSync(owner, 'utf8')) as Witness).workflowId === workflowId;
    });
}

function lose(scene: Scene, { name }: TrialExperiment, what: Aftermath): void {
  for (const folder of workFolders(scene, workflowIdOf(name))) {
    if (what === 'lose key' || what === 'lose run state') rmSync(join(folder, 'noise.key'), { force: true });
    if (what === 'lose checkpoints' || what === 'lose run state') {
      rmSync(join(folder, 'checkpoints'), { recursive: true, force: true });
    }
  }
}

/** Notes what is published; the same payers must never see two contents. */
async function look({ store, plan, published, result, sharesNodes }: Scene): Promise<void> {
  if (sharesNodes) return;
  for (const { id, key } of plan.nodes) {
    const artifact = await store.lookup(key);
    if (artifact === null) continue;
    const { files, paidBy } = artifact.manifest;
    const name = `${key} ${paidBy?.join(' ')}`;
    const content = jsonDigest(files);
    if ((published.get(name) ?? content) !== content) result.problems.push(`${id} was published with two contents`);
    published.set(name, content);
    if ((await store.verify(artifact)).length > 0) result.problems.push(`${id} is damaged`);
  }
}

async function examine(scene: Scene, witnesses: Witness[], database: TestDatabase): Promise<void> {
  const { result, ledgerUrl, published, sharesNodes } = scene;
  const execute = (statement: string): Promise<Record<string, unknown>[]> => database.execute(ledgerUrl, statement);
  const ledger = await openLedger(ledgerUrl);
  try {
    await ledger.verify().catch((error: unknown) => result.problems.push(`verify: ${String(error)}`));
    const { problems, ...sums } = await compareWithLedger(ledger, execute, witnesses);
    Object.assign(result, sums);
    result.problems.push(...problems);
  } finally {
    await ledger.close();
  }
  for (const { id } of await execute("select id from entries where state = 'committed'")) {
    const isSeen = [...published.keys()].some((name) => name.includes(String(id)));
    if (!isSeen && !sharesNodes)
      result.problems.push(`entry ${String(id)} is committed, and nothing was published for it`);
  }
  for (const { workflowId, ended } of witnesses) {
    if (ended && workFolders(scene, workflowId).length > 0) result.problems.push(`${workflowId} left its key behind`);
  }
}
