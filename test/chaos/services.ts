/**
 * @file Chaos on everything that a run needs: worker, step processes, Temporal, MLflow and PostgreSQL are killed at
 * random moments of small experiments and started again. The runs must end by themselves, with nothing done twice.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { Client, Connection } from '@temporalio/client';

import { killProcess } from '../../activities/process-identity.ts';
import { withCompileHost } from '../../cli/compile-host.ts';
import { registerPlan } from '../../cli/registrations.ts';
import { startRun } from '../../cli/start-run.ts';
import { compile } from '../../compiler/index.ts';
import { openLedger } from '../../privacy/ledger/index.ts';
import { canonicalJson } from '../../schemas/canonical-json.ts';
import type { Plan } from '../../schemas/plan.ts';
import { readRecord } from '../../stack/local-service.ts';
import { statePaths } from '../../stack/paths.ts';
import { ensureMlflow, ensureTemporal, stopServices } from '../../stack/services.ts';
import { ensureWorker, findWorker, stopWorker } from '../../stack/worker-process.ts';
import { connectMlflow } from '../../tracking/mlflow/client.ts';
import { readEvents, type RunEvent } from '../../tracking/events.ts';
import { nodeTag, runIdentity, runTag } from '../../tracking/publish/describe.ts';
import type { RunFolder } from '../../tracking/runs.ts';
import {
  generatorStep,
  jobProcesses,
  openTinyWorld,
  specHead,
  type TinyWorld,
} from '../orchestration/tiny-experiment.ts';
import { freePort, startPostgres, type PostgresServer } from '../postgres-server.ts';
import { seededRandom } from '../privacy/seeded-random.ts';
import { compareWithLedger } from './spending.ts';

export const victims = ['worker', 'step process', 'Temporal', 'MLflow', 'PostgreSQL'] as const;
export type Victim = (typeof victims)[number];

/** Of training; a checkpoint is due after every tenth step. */
const steps = 24;
const checkpointSteps = 10;

/** A run may take this long after the last kill, seconds. */
const patience = 300;

const privateData = { size: 2000, epsilon: 100_000, sensitivity: 'private' };

const specOf = (name: string, seed: number): string => `${specHead(name, privateData)}
matrix: { seed: [${seed}, ${seed + 1}] }
steps:
${generatorStep({ epsilon: 8, steps, batch: 600, seed: '"${{ matrix.seed }}"' })}
  synthetic:
    uses: generate
    with: { generator: "\${{ steps.generator }}", count: 60, maxTokens: 12, temperature: 1, seed: 1 }
  classifier:
    uses: train-classifier
    with:
      family: word-cnn
      train: "\${{ steps.synthetic }}"
      test: weather
      release: { epsilon: 0.5 }
      epochs: 2
      seed: 1
  comparison:
    uses: compare
    with: { arms: { synthetic: "\${{ steps.classifier }}" }, over: [seed] }
`;

export interface ServiceChaosSettings {
  seed: number;
  kills: number;
  say(line: string): void;
}

export interface ServiceChaos {
  experiments: number;
  kills: Record<Victim, number>;
  /** Milliseconds from a restart to the next line in the run's log, or to its end. */
  progressAfter: Record<Victim, number[]>;
  spent: number;
  charged: number;
  problems: string[];
  seconds: number;
}

interface Experiment extends RunFolder {
  plan: Plan;
  deaths: number;
}

export async function runServiceChaos(settings: ServiceChaosSettings): Promise<ServiceChaos> {
  const started = Date.now();
  const postgres = await startPostgres();
  const world = await openTinyWorld({ train: 2000, withModel: true });
  const own = {
    EPSILONFLOW_LEDGER_URL: await postgres.createDatabase(),
    EPSILONFLOW_SPENDING_LOG: join(world.folder, 'spending.jsonl'),
    // While one is dead nobody else shall take its place.
    EPSILONFLOW_TEMPORAL_PORT: String(await freePort()),
    EPSILONFLOW_TEMPORAL_UI_PORT: String(await freePort()),
    EPSILONFLOW_MLFLOW_PORT: String(await freePort()),
  };
  Object.assign(process.env, own);
  delete process.env['MLFLOW_TRACKING_URI'];
  const chaos = new Chaos(settings, world, postgres);
  try {
    await chaos.run();
    return { ...chaos.finding, seconds: (Date.now() - started) / 1000 };
  } finally {
    await stopWorker();
    await stopServices();
    for (const name of Object.keys(own)) delete process.env[name];
    await postgres.remove();
    world.remove();
  }
}

const byVictim = <T>(of: () => T): Record<Victim, T> =>
  Object.fromEntries(victims.map((victim) => [victim, of()])) as Record<Victim, T>;

class Chaos {
  readonly finding: Omit<ServiceChaos, 'seconds'> = {
    ...{ experiments: 0, spent: 0, charged: 0, problems: [] },
    ...{ kills: byVictim(() => 0), progressAfter: byVictim(() => []) },
  };
  private readonly settings: ServiceChaosSettings;
  private readonly world: TinyWorld;
  private readonly postgres: PostgresServer;
  private readonly random: () => number;
  private readonly experiments: Experiment[] = [];
  private client!: Client;

  constructor(settings: ServiceChaosSettings, world: TinyWorld, postgres: PostgresServer) {
    this.settings = settings;
    this.world = world;
    this.postgres = postgres;
    this.random = seededRandom(settings.seed);
  }

  async run(): Promise<void> {
    const temporal = await ensureTemporal();
    await ensureMlflow();
    await ensureWorker(temporal);
    const connection = await Connection.connect({ address: temporal.address });
    this.client = new Client({ connection });
    try {
      const order = this.victimsInTurn();
      while (order.length > 0) {
        const experiment = await this.start();
        while (order.length > 0 && (await this.isRunning(experiment))) {
          await sleep(200 + this.random() * 2800);
          if (await this.kill(order[0]!, experiment)) order.shift();
        }
        await this.untilEnded(experiment);
        await this.examine(experiment);
      }
      await this.examineLedger();
    } finally {
      await connection.close();
    }
    await this.examineProcesses();
    await stopWorker();
    this.examineRemains();
  }

  /** All of them in one round before the next, each round in another order. */
  private victimsInTurn(): Victim[] {
    const order: Victim[] = [];
    while (order.length < this.settings.kills) {
      const round = [...victims];
      while (round.length > 0) order.push(...round.splice(Math.floor(this.random() * round.length), 1));
    }
    return order.slice(0, this.settings.kills);
  }

  private async start(): Promise<Experiment> {
    const number = this.experiments.length + 1;
    const file = this.world.write(`services-${number}.yaml`, specOf(`services-${number}`, 2 * number));
    const { compiled, registrations } = await withCompileHost(async (host) => ({
      compiled: await compile({ file }, host),
      registrations: host.registrations,
    }));
    const { plan } = compiled;
    const run = await startRun(this.client, compiled, () => registerPlan(plan, registrations, () => undefined));
    const experiment = { ...run, plan, deaths: 0 };
    this.experiments.push(experiment);
    this.finding.experiments += 1;
    return experiment;
  }

  /** As Temporal has it; asked until it answers, for it may have been started just now. */
  private async stateOf({ record: { workflowId } }: Experiment): Promise<string> {
    let state: string | null = null;
    const handle = this.client.workflow.getHandle(workflowId);
    await this.until('Temporal answers', async () => (state = (await handle.describe()).status.name) !== null);
    return state!;
  }

  private async isRunning(experiment: Experiment): Promise<boolean> {
    return (await this.stateOf(experiment)) === 'RUNNING';
  }

  /** Kills one, starts it again, and waits until the run gets on. False: there is none of it at the moment. */
  private async kill(victim: Victim, experiment: Experiment): Promise<boolean> {
    if (!(await this.isRunning(experiment)) || !(await this.strike(victim))) return false;
    this.finding.kills[victim] += 1;
    experiment.deaths += 1;
    await sleep(this.random() * 2000);
    await this.restart(victim);
    const before = this.lines(experiment);
    const since = Date.now();
    const progressed = async (): Promise<boolean> =>
      this.lines(experiment) > before || !(await this.isRunning(experiment));
    await this.until(`${experiment.record.workflowId} gets on after ${victim} was killed`, progressed);
    const milliseconds = Date.now() - since;
    this.finding.progressAfter[victim].push(milliseconds);
    this.settings.say(`services: killed ${victim}, progress after ${milliseconds} ms`);
    return true;
  }

  private async strike(victim: Victim): Promise<boolean> {
    if (victim === 'PostgreSQL') {
      await this.postgres.crash('SIGKILL');
      return true;
    }
    if (victim === 'worker') {
      const worker = findWorker()?.process;
      if (worker) killProcess(worker, 'SIGKILL');
      return worker !== undefined;
    }
    if (victim === 'step process') {
      const [job] = jobProcesses(this.world);
      if (job !== undefined) process.kill(job, 'SIGKILL');
      return job !== undefined;
    }
    process.kill(-readRecord(victim.toLowerCase())!.pid, 'SIGKILL');
    return true;
  }

  /** What whoever keeps services up would do; a step process is the worker's. */
  private async restart(victim: Victim): Promise<void> {
    if (victim === 'PostgreSQL') await this.postgres.start();
    if (victim === 'MLflow') await ensureMlflow();
    if (victim === 'Temporal') await ensureTemporal();
    if (victim === 'worker') await ensureWorker(await ensureTemporal());
  }

  private lines({ directory }: Experiment): number {
    return readEvents(directory).events.length;
  }

  private async until(what: string, look: () => Promise<boolean>, seconds = patience): Promise<void> {
    for (const deadline = Date.now() + seconds * 1000; !(await look().catch(() => false)); await sleep(50)) {
      if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}; it is in ${this.world.folder}`);
    }
  }

  private async untilEnded(experiment: Experiment): Promise<void> {
    await this.until(`${experiment.record.workflowId} has ended`, async () => !(await this.isRunning(experiment)));
  }

  private problem({ record }: Experiment, text: string): void {
    this.finding.problems.push(`${record.name} under chaos of services: ${text}`);
  }

  private async examine(experiment: Experiment): Promise<void> {
    const state = await this.stateOf(experiment);
    if (state !== 'COMPLETED') this.problem(experiment, `it ended as ${state}`);
    const { events } = readEvents(experiment.directory);
    for (const { id } of experiment.plan.nodes) this.examineNode(experiment, id, events);
    await this.examineTracker(experiment);
  }

  private examineNode(experiment: Experiment, id: string, events: readonly RunEvent[]): void {
    const own = events.filter((event) => 'node' in event && event.node === id);
    const ends = own.flatMap((event) => (event.type === 'node-completed' ? [event] : []));
    if (ends.length === 0) return this.problem(experiment, `${id} has no result`);
    if (own.indexOf(ends[0]!) < own.findLastIndex(({ type }) => type === 'node-started'))
      this.problem(experiment, `${id} ran again`);
    const results = new Set(ends.map(({ key, metrics }) => canonicalJson({ key, metrics })));
    if (results.size > 1) this.problem(experiment, `${id} has ${results.size} results`);
    let last = 0;
    for (const event of own) {
      if (event.type !== 'metric') continue;
      if (event.step < last - checkpointSteps)
        this.problem(experiment, `${id} fell from step ${last} to ${event.step}`);
      last = event.step;
    }
  }

  /** One run of the tracker for the run and one for each instance, all of them ended. */
  private async examineTracker(experiment: Experiment): Promise<void> {
    const { plan, record } = experiment;
    const { uri } = (await ensureMlflow())!;
    const client = connectMlflow(uri);
    const tag = { key: runTag, value: runIdentity(record) };
    const runs = await client.runsByTag(await client.experiment(plan.name), tag);
    const nodes = new Set(runs.map(({ tags }) => tags[nodeTag]));
    const wanted = plan.nodes.length + 1;
    if (runs.length !== wanted || nodes.size !== wanted)
      this.problem(experiment, `the tracker has ${runs.length} runs of ${nodes.size} instances, ${wanted} are meant`);
    const open = runs.filter(({ status }) => status !== 'FINISHED');
    if (open.length > 0) this.problem(experiment, `${open.length} runs of the tracker are ${open[0]!.status}`);
  }

  private async examineLedger(): Promise<void> {
    const { problems } = this.finding;
    const url = process.env['EPSILONFLOW_LEDGER_URL']!;
    const ledger = await openLedger(url);
    try {
      await ledger.verify();
      const witnesses = this.experiments.map(({ record: { workflowId }, deaths }) => ({
        ...{ workflowId, deaths, spendingLog: process.env['EPSILONFLOW_SPENDING_LOG']! },
        ...{ ended: true, completed: true, sharesKeys: false },
      }));
      const execute = async (statement: string): Promise<Record<string, unknown>[]> =>
        (await this.postgres.query(url, statement)).rows;
      const found = await compareWithLedger(ledger, execute, witnesses);
      this.finding.spent = found.spent;
      this.finding.charged = found.charged;
      problems.push(...found.problems);
    } finally {
      await ledger.close();
    }
  }

  /** After the worker has ended. */
  private examineRemains(): void {
    const { problems } = this.finding;
    const folders = [join(statePaths.privateStore(), 'work'), join(statePaths.sharedStore(), 'staging')];
    for (const folder of folders) {
      const left = existsSync(folder) ? readdirSync(folder) : [];
      if (left.length > 0) problems.push(`${folder} still holds ${left.join(', ')}`);
    }
    if (jobProcesses(this.world).length > 0) problems.push('A step process outlived the worker.');
  }

  /** No step goes on when no run does, and whoever started a process has taken notice of its end. */
  private async examineProcesses(): Promise<void> {
    const parents = [process.pid, findWorker()!.process.pid];
    const left = (): string[] => parents.flatMap(zombiesOf).concat(jobProcesses(this.world).map(String));
    await this.until('no process is left', () => Promise.resolve(left().length === 0), 10).catch(() =>
      this.finding.problems.push(`Processes ${left().join(', ')} were left.`),
    );
  }
}

function zombiesOf(parent: number): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
      const [state, ppid] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return state === 'Z' && Number(ppid) === parent;
    } catch {
      return false;
    }
  });
}
