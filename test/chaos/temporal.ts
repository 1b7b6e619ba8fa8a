/**
 * @file Chaos on a real Temporal server: experiments on one private account one after another and side by side, whose
 * worker or step process is killed at one boundary after the other and started again until all has ended. Every second
 * one has three private steps and continues as new while they train.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { Client, Connection } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';

import { withCompileHost } from '../../cli/compile-host.ts';
import { registerPlan } from '../../cli/registrations.ts';
import { startRun } from '../../cli/start-run.ts';
import { compile } from '../../compiler/index.ts';
import { openLedger } from '../../privacy/ledger/index.ts';
import { packageRoot, statePaths } from '../../stack/paths.ts';
import { ensureTemporal, stopServices } from '../../stack/services.ts';
import { findWorker } from '../../stack/worker-process.ts';
import { jobProcesses, openTinyWorld, type TinyWorld } from '../orchestration/tiny-experiment.ts';
import type { TestDatabase } from '../privacy/ledger-databases.ts';
import { seededRandom } from '../privacy/seeded-random.ts';
import { compareWithLedger, type Finding, type Witness } from './spending.ts';
import { Moments, moments, turnEarly, type Moment } from './turning-client.ts';

const steps = 12;

/** How often a noise key is lost when a worker dies. */
const keyLossShare = 0.15;

const specOf = (name: string, seeds: readonly number[]): string => `
version: 1
name: ${name}
matrix: { seed: [${seeds.join(', ')}] }
datasets:
  people:
    files: { train: train.jsonl, test: test.jsonl }
    text: text
    label: { column: label, values: [cold, warm] }
    sensitivity: private
    privacy: { unit: record, size: 60, budget: { epsilon: 100000 } }
steps:
  classifier:
    uses: train-classifier
    with:
      train: people
      test: people
      epsilon: 4
      release: { epsilon: 0.5 }
      dp: { steps: ${steps}, batch: 20, buckets: 40, embedding: 4, filters: 4 }
      seed: "\${{ matrix.seed }}"
`;

interface Place {
  /** For `EPSILONFLOW_FAILPOINT`. */
  boundary: string;
  /** Most counts that one experiment reaches for sure. */
  upTo: number;
  /** In the step's own process, which the worker survives. */
  inJob: boolean;
}

const place = (boundary: string, upTo = 1, inJob = false): Place => ({ boundary, upTo, inJob });

const isMoment = (boundary: string): boundary is Moment => (moments as readonly string[]).includes(boundary);

/** Before, in and after everything that an experiment does. */
const places: readonly Place[] = [
  ...['asked', 'written', 'durable'].map((what) => place(`reserve: ${what}`)),
  ...['key: drafted', 'key: linked', 'attempt: keyed'].map((name) => place(name)),
  ...['asked', 'written', 'durable'].map((what) => place(`begin: ${what}`, 2)),
  place('attempt: begun'),
  ...['asked', 'written', 'durable'].map((what) => place(`record: ${what}`, steps)),
  ...['reached', 'announced', 'updated', 'done'].map((what) => place(`step: ${what}`, steps, true)),
  ...['drafted', 'renamed'].map((what) => place(`checkpoint: ${what}`, 1, true)),
  ...['publish: asked', 'publish: described', 'publish: renamed', 'attempt: published'].map((name) => place(name)),
  ...['asked', 'written', 'durable'].map((what) => place(`commit: ${what}`, 2)),
  ...['attempt: committed', 'attempt: told', 'key: overwritten', 'key: removed'].map((name) => place(name)),
  ...['asked', 'written', 'durable'].map((what) => place(`release: ${what}`)),
  place('receipts: read'),
  ...moments.map((moment) => place(moment, 2)),
];

export interface TemporalSettings {
  seed: number;
  /** Experiments, and processes killed. */
  trials: number;
  /** Boundaries in the place of seeded ones. */
  at?: readonly string[];
  databases: readonly TestDatabase[];
  say(line: string): void;
}

export interface TemporalCampaign extends Omit<Finding, 'problems'> {
  experiments: number;
  /** Runs that another run of the same experiment continued. */
  turns: number;
  deaths: number;
  ends: Record<string, number>;
  hits: Record<string, number>;
  problems: string[];
  seconds: number;
}

interface Armed extends Place {
  count: number;
}

function killsOf({ seed, trials, at }: TemporalSettings): Armed[] {
  const random = seededRandom(seed);
  const order: Place[] = [];
  while (order.length < trials) {
    const round = [...places];
    while (round.length > 0) order.push(...round.splice(Math.floor(random() * round.length), 1));
  }
  const wanted = at?.map((name) => places.find(({ boundary }) => boundary === name)!) ?? order.slice(0, trials);
  return wanted.map((each) => ({ ...each, count: 1 + Math.floor(random() * each.upTo) }));
}

async function until<T>(what: string, look: () => T | null | Promise<T | null>, seconds = 240): Promise<T> {
  for (const deadline = Date.now() + seconds * 1000; Date.now() < deadline; await sleep(25)) {
    const found = await look();
    if (found !== null) return found;
  }
  throw new Error(`Waited in vain until ${what}`);
}

/** Runs all of it; experiments take turns on the databases. */
export async function runOnTemporal(settings: TemporalSettings): Promise<TemporalCampaign> {
  const started = Date.now();
  const kills = killsOf(settings);
  const campaign: TemporalCampaign = {
    ...{ spent: 0, charged: 0, underCounted: 0, overCounted: 0 },
    ...{ experiments: 0, turns: 0, deaths: 0, ends: {}, hits: {}, problems: [], seconds: 0 },
  };
  const { databases } = settings;
  for (const [index, database] of databases.entries()) {
    const share = kills.filter((_, at) => at % databases.length === index);
    await new TemporalWorld(settings, database, share, campaign).run();
  }
  campaign.seconds = (Date.now() - started) / 1000;
  return campaign;
}

interface Flight {
  witness: Witness;
  /** Workflow ids of its private steps. */
  children: string[];
  ended: boolean;
  /** Someone took its noise key: it may fail. */
  lostKey: boolean;
}

class TemporalWorld {
  private readonly settings: TemporalSettings;
  private readonly database: TestDatabase;
  /** Those that are still to come; the first is the worker's. */
  private readonly kills: Armed[];
  private readonly wanted: number;
  private readonly campaign: TemporalCampaign;
  private world!: TinyWorld;
  private client!: Client;
  private moments!: Moments;
  private worker: ChildProcess | null = null;
  /** Moments of the kind that the worker is to die at, when it was started. */
  private momentsBefore = 0;
  private readonly flights: Flight[] = [];
  private seenCrashes = 0;
  private readonly random: () => number;

  constructor(settings: TemporalSettings, database: TestDatabase, kills: Armed[], campaign: TemporalCampaign) {
    this.settings = settings;
    this.database = database;
    this.kills = kills;
    this.wanted = kills.length;
    this.random = seededRandom(settings.seed + 1);
    this.campaign = campaign;
  }

  async run(): Promise<void> {
    this.world = await openTinyWorld({ train: 60, withModel: false });
    try {
      const url = await this.database.fresh();
      process.env['EPSILONFLOW_LEDGER_URL'] = url;
      const { address } = await ensureTemporal();
      process.env['TEMPORAL_ADDRESS'] = address;
      const connection = await Connection.connect({ address });
      this.client = new Client({ connection, interceptors: { workflow: [turnEarly] } });
      this.moments = new Moments(this.client);
      try {
        await this.work();
        const { count } = await this.client.workflow.count('ExecutionStatus = "ContinuedAsNew"');
        this.campaign.turns += count;
        await this.examine(url);
      } finally {
        this.worker?.kill('SIGKILL');
        await connection.close();
      }
    } finally {
      delete process.env['TEMPORAL_ADDRESS'];
      await stopServices();
      this.world.remove();
    }
  }

  private async work(): Promise<void> {
    for (;;) {
      const open = this.flights.filter(({ ended }) => !ended);
      const mayStart = this.kills.length > 0 || this.flights.length < this.wanted;
      if (open.length === 0 && !mayStart) return;
      if (this.flights.length > 3 * this.wanted + 2) throw new Error(`Nothing dies at ${this.kills[0]?.boundary}.`);
      for (let count = open.length; count < 2 && mayStart; count += 1) await this.startExperiment();
      await this.keepWorker();
      await this.advance();
    }
  }

  private async startExperiment(): Promise<void> {
    const number = this.flights.length + 1;
    const seed = this.settings.seed * 1000 + 10 * number;
    const [name, seeds] = number % 2 === 0 ? ['turning', [seed, seed + 1, seed + 2]] : ['chaos', [seed]];
    const file = this.world.write(`${name}-${number}.yaml`, specOf(`${name}-${number}`, seeds as number[]));
    const { compiled, registrations } = await withCompileHost(async (host) => ({
      compiled: await compile({ file }, host),
      registrations: host.registrations,
    }));
    const { record } = await startRun(this.client, compiled, () =>
      registerPlan(compiled.plan, registrations, () => undefined),
    );
    const { workflowId } = record;
    const result = this.client.workflow
      .getHandle(workflowId)
      .result()
      .then(
        () => 'completed',
        (error: unknown) => `failed: ${String((error as Error).cause ?? error)}`,
      );
    const spendingLog = join(this.world.folder, 'spending.jsonl');
    const witness = { workflowId, spendingLog, deaths: 0, ended: false, completed: false, sharesKeys: false };
    const children = compiled.plan.nodes.map(({ slug }) => `${workflowId}/${slug}`);
    const flight: Flight = { witness, children, ended: false, lostKey: false };
    this.flights.push(flight);
    this.campaign.experiments += 1;
    void result.then((end) => {
      flight.ended = true;
      witness.ended = true;
      witness.completed = end === 'completed';
      const label = witness.completed ? end : 'failed';
      this.campaign.ends[label] = (this.campaign.ends[label] ?? 0) + 1;
      if (end !== 'completed' && !flight.lostKey) this.campaign.problems.push(`${workflowId} on Temporal: ${end}`);
    });
  }

  private async keepWorker(): Promise<void> {
    if (this.worker !== null) return;
    const armed = this.kills[0];
    const log = openSync(join(this.world.folder, 'worker.log'), 'a');
    const environment = {
      ...process.env,
      EPSILONFLOW_SPENDING_LOG: join(this.world.folder, 'spending.jsonl'),
      ...(armed && !isMoment(armed.boundary) && { EPSILONFLOW_FAILPOINT: `${armed.boundary}#${armed.count}` }),
    };
    if (armed && isMoment(armed.boundary)) this.momentsBefore = await this.countMoments(armed.boundary);
    const startedAt = Date.now();
    const child = spawn(process.execPath, [join(packageRoot, 'cli', 'epsilonflow.mjs'), 'worker', '--jobs', '2'], {
      env: environment,
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    this.worker = child;
    await until('a worker is ready', () => {
      if (child.exitCode !== null || child.signalCode !== null) return true;
      return findWorker()?.process.pid === child.pid ? true : null;
    });
    await this.handBack(startedAt);
  }

  private countMoments(moment: Moment): Promise<number> {
    const open = this.flights.filter(({ ended }) => !ended);
    return this.moments.count(
      moment,
      open.map(({ witness: { workflowId }, children }) => ({ workflowId, children })),
    );
  }

  /** Kills the worker when the moment has come that it is to die at. */
  private async killAtMoment(): Promise<void> {
    const [armed] = this.kills;
    if (!armed || !isMoment(armed.boundary) || this.worker === null) return;
    if ((await this.countMoments(armed.boundary)) < this.momentsBefore + armed.count) return;
    this.worker.kill('SIGKILL');
    await once(this.worker, 'exit');
  }

  /** Tells Temporal at once of attempts that died with a worker, but for those that the new worker found by itself. */
  private async handBack(before: number): Promise<void> {
    const open = this.flights.filter(({ ended }) => !ended);
    for (const { witness, children } of open) {
      for (const workflowId of [witness.workflowId, ...children]) {
        const description = await this.client.workflow
          .getHandle(workflowId)
          .describe()
          .catch(() => null);
        for (const { activityId, lastStartedTime, state } of description?.raw.pendingActivities ?? []) {
          const startedAt = Number(lastStartedTime?.seconds ?? 0) * 1000;
          // PENDING_ACTIVITY_STATE_STARTED
          if (state !== 2 || startedAt === 0 || startedAt + 1000 > before) continue;
          const failure = ApplicationFailure.create({ type: 'WORKER_DIED', message: 'Its worker was killed.' });
          await this.client.activity.fail({ workflowId, activityId: activityId! }, failure).catch(() => undefined);
        }
      }
    }
  }

  /** Waits until something happens: a death, or the end of an experiment. */
  private async advance(): Promise<void> {
    const worker = this.worker!;
    const open = this.flights.filter(({ ended }) => !ended);
    if (open.length === 0) return;
    await until('an experiment ends or something dies', async () => {
      await this.killAtMoment();
      if (open.some(({ ended }) => ended)) return true;
      if (worker.signalCode !== null || worker.exitCode !== null) return true;
      const crashes = this.crashes();
      if (crashes > this.seenCrashes) return true;
      // Folders of steps that were committed are gone, and their counts with them.
      this.seenCrashes = crashes;
      return null;
    });
    const crashes = this.crashes();
    if (crashes > this.seenCrashes && worker.signalCode === null && worker.exitCode === null) {
      // Its next job would die at the same place.
      worker.kill('SIGKILL');
      await once(worker, 'exit');
    }
    if (worker.exitCode !== null) throw new Error(`The worker ended with code ${worker.exitCode}: ${this.workerLog()}`);
    if (worker.signalCode === null) return;
    this.worker = null;
    this.seenCrashes = this.crashes();
    await until('no job is left', () => (jobProcesses(this.world).length === 0 ? true : null), 30);
    const { boundary } = this.kills.shift()!;
    this.campaign.deaths += 1;
    this.campaign.hits[boundary] = (this.campaign.hits[boundary] ?? 0) + 1;
    for (const { witness, ended } of this.flights) if (!ended) witness.deaths += 1;
    if (this.random() < keyLossShare) this.loseKey();
    this.settings.say(`Temporal, ${this.database.name}: killed at ${boundary}, ${this.flights.length} experiments`);
  }

  private loseKey(): void {
    const root = join(statePaths.privateStore(), 'work');
    for (const flight of this.flights.filter(({ ended }) => !ended)) {
      for (const name of existsSync(root) ? readdirSync(root) : []) {
        const owner = join(root, name, 'owner.json');
        if (!existsSync(owner)) continue;
        const { workflowId } = JSON.parse(readFileSync(owner, 'utf8')) as { workflowId: string };
        if (workflowId !== flight.witness.workflowId) continue;
        rmSync(join(root, name, 'noise.key'), { force: true });
        flight.lostKey = true;
        return;
      }
    }
  }

  private workerLog(): string {
    return readFileSync(join(this.world.folder, 'worker.log'), 'utf8').slice(-2000);
  }

  /** Jobs that died by themselves, as workers counted them in the folders of steps that are not done. */
  private crashes(): number {
    const root = join(statePaths.privateStore(), 'work');
    if (!existsSync(root)) return 0;
    const folders = readdirSync(root).map((name) => join(root, name));
    const files = folders.flatMap((folder) => {
      try {
        return readdirSync(folder).flatMap((name) => (name.startsWith('crashes-') ? [join(folder, name)] : []));
      } catch {
        return [];
      }
    });
    return files.reduce((sum, file) => sum + (existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0), 0);
  }

  private async examine(url: string): Promise<void> {
    const { campaign } = this;
    const ledger = await openLedger(url);
    try {
      await ledger.verify();
      const witnesses = this.flights.map(({ witness }) => witness);
      const execute = (statement: string): Promise<Record<string, unknown>[]> => this.database.execute(url, statement);
      const { problems, ...sums } = await compareWithLedger(ledger, execute, witnesses);
      for (const name of ['spent', 'charged', 'underCounted', 'overCounted'] as const) campaign[name] += sums[name];
      campaign.problems.push(...problems.map((problem) => `on Temporal, ${this.database.name}: ${problem}`));
    } finally {
      await ledger.close();
      await this.database.drop(url);
    }
    const work = join(statePaths.privateStore(), 'work');
    if (existsSync(work) && readdirSync(work).length > 0) campaign.problems.push('A key was left behind.');
    rmSync(work, { recursive: true, force: true });
  }
}
