/**
 * @file What an instance costs besides its own work: processor time of worker and Temporal server together, which other
 * programs of the machine change less than time by the clock. Steps do nothing but write their lines of the event log.
 */

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { readRecord } from '../stack/local-service.ts';
import type { Plan } from '../schemas/plan.ts';
import {
  madeUpPlan,
  openCheapWorld,
  type CheapWorld,
  type MadeUpNode,
} from '../test/orchestration/cheap-experiment.ts';
import { taskQueues } from '../workflows/task-queues.ts';
import { median, type Bench, type BenchCase, type MeasureOptions } from './bench-case.ts';
import { engines, type Engine, type EngineAnswer } from './engines/engines.ts';
import type { PeerProcess } from './peer-process.ts';

/** Of one tick of `/proc/PID/stat`, which Linux fixes for programs. */
const tick = 10;

interface Place extends CheapWorld {
  stop(): Promise<void>;
}

let opened: Promise<Place> | null = null;

async function open(): Promise<Place> {
  const world = await openCheapWorld(fileURLToPath(new URL('orchestration-workflows.ts', import.meta.url)));
  const { stop } = await world.work(() => Promise.resolve());
  const place = { ...world, stop };
  // Compiles code and fills caches.
  await runOurs(place, planOf('warm', 40));
  await runByHand(place, planOf('warm', 40));
  return place;
}

/** Of a graph of so many steps. */
const chainsOf = (steps: number): number => Math.ceil(steps / 4.1);

/** Chains of four steps, of which ten each end in a comparison. */
function planOf(name: string, count: number): Plan {
  const chains = chainsOf(count);
  const nodes = Array.from({ length: chains }, (_, seed): MadeUpNode[] => [
    { id: `${name}-base[seed=${seed}]`, kind: 'pretrain' },
    { id: `${name}-generator[seed=${seed}]`, kind: 'finetune', needs: [`${name}-base[seed=${seed}]`] },
    { id: `${name}-synthetic[seed=${seed}]`, kind: 'generate', needs: [`${name}-generator[seed=${seed}]`] },
    { id: `${name}-classifier[seed=${seed}]`, kind: 'train-classifier', needs: [`${name}-synthetic[seed=${seed}]`] },
  ]).flat();
  for (let from = 0; from < chains; from += 10) {
    const arms = Array.from({ length: Math.min(10, chains - from) }, (_, arm) => from + arm);
    const needs = arms.map((seed) => `${name}-classifier[seed=${seed}]`);
    nodes.push({ id: `${name}-comparison[group=${from}]`, kind: 'compare', needs });
  }
  return madeUpPlan('bench', nodes);
}

/** Milliseconds of processor time that this process and the server have used. */
function spent(): number {
  const { user, system } = process.cpuUsage();
  const { pid } = readRecord('temporal')!;
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (user + system) / 1000 + (Number(fields[11]) + Number(fields[12])) * tick;
}

/** Per instance. */
async function costOf(plan: Plan, run: () => Promise<unknown>): Promise<number> {
  const before = spent();
  await run();
  return (spent() - before) / plan.nodes.length;
}

async function runOurs(place: CheapWorld, plan: Plan): Promise<void> {
  const { completed } = await (await place.start(plan)).result;
  if (completed !== plan.nodes.length) throw new Error(`${completed} of ${plan.nodes.length} instances completed`);
}

async function runByHand(place: CheapWorld, plan: Plan): Promise<void> {
  const run = await place.claim(plan);
  const nodes = plan.nodes.map(({ id, kind, needs }) => ({ id, kind, needs }));
  const options = { args: [run, nodes], workflowId: `${run.workflowId}-by-hand`, taskQueue: taskQueues.control };
  await place.client.workflow.execute('handWritten', options);
}

const place = (): Promise<Place> => (opened ??= open());
const rounds = (quick: boolean): number[] => Array.from({ length: quick ? 1 : 3 }, (_, round) => round);
let plans = 0;
/** Of nodes that nothing was made for before. */
const freshPlan = (count: number): Plan => planOf(`p${(plans += 1)}`, count);

const againstHand: BenchCase = {
  name: 'overhead-1e3',
  unit: 'ms of processor time an instance',
  better: 'less',
  peerName: 'a Temporal workflow written by hand, same activities',
  goal: 0.9,
  measure: async ({ quick, say }) => {
    const costs: { ours: number; peer: number }[] = [];
    for (const round of rounds(quick)) {
      const [one, other] = [freshPlan(quick ? 200 : 1000), freshPlan(quick ? 200 : 1000)];
      const here = await place();
      const ours = await costOf(one, () => runOurs(here, one));
      const peer = await costOf(other, () => runByHand(here, other));
      say(`  round ${round + 1}: ${ours.toFixed(2)} and ${peer.toFixed(2)}`);
      costs.push({ ours, peer });
    }
    return { ours: median(costs.map(({ ours }) => ours)), peer: median(costs.map(({ peer }) => peer)) };
  },
};

/** The same graph, whose steps do nothing in the engine's own terms. */
const againstEngine = ({ name, title, start }: Engine): BenchCase => ({
  name: `against-${name}`,
  unit: 'ms of processor time an instance',
  better: 'less',
  peerName: title,
  goal: 0.9,
  measure: async ({ quick, say }) => {
    const here = await place();
    const engine = await start(say);
    try {
      // Imports modules and fills caches.
      await costIn(engine, 40);
      const costs: { ours: number; peer: number }[] = [];
      for (const round of rounds(quick)) {
        const plan = freshPlan(quick ? 200 : 1000);
        const ours = await costOf(plan, () => runOurs(here, plan));
        const peer = await costIn(engine, plan.nodes.length);
        say(`  round ${round + 1}: ${ours.toFixed(2)} and ${peer.toFixed(2)}`);
        costs.push({ ours, peer });
      }
      return { ours: median(costs.map(({ ours }) => ours)), peer: median(costs.map(({ peer }) => peer)) };
    } finally {
      await engine.close();
    }
  },
});

async function costIn(engine: PeerProcess<EngineAnswer>, count: number): Promise<number> {
  const chains = chainsOf(count);
  const { milliseconds, steps } = await engine.ask({ chains });
  const wanted = 4 * chains + Math.ceil(chains / 10);
  if (steps !== wanted) throw new Error(`${steps} of ${wanted} steps completed`);
  return milliseconds / steps;
}

interface Growth {
  /** Processor time an instance, milliseconds. */
  cost: { small: number; large: number };
  /** Most that the worker's process held meanwhile, MB. */
  memory: { small: number; large: number };
}

/** Memory of this process while something is done. */
async function peakWhile(work: () => Promise<void>): Promise<number> {
  let peak = process.memoryUsage.rss();
  const timer = setInterval(() => (peak = Math.max(peak, process.memoryUsage.rss())), 100);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  return peak / 1e6;
}

/** Runs of 100 instances, and then a large one. */
async function grow(count: number, { quick, say }: MeasureOptions): Promise<Growth> {
  const here = await place();
  const small: number[] = [];
  const smallMemory = await peakWhile(async () => {
    for (let round = 0; round < (quick ? 1 : 5); round += 1) {
      const plan = freshPlan(100);
      small.push(await costOf(plan, () => runOurs(here, plan)));
    }
  });
  say(`  100 instances: ${small.map((cost) => cost.toFixed(2)).join(', ')}`);
  const plan = freshPlan(quick ? count / 10 : count);
  let large = 0;
  const started = performance.now();
  const largeMemory = await peakWhile(async () => {
    large = await costOf(plan, () => runOurs(here, plan));
  });
  const seconds = (performance.now() - started) / 1000;
  say(`  ${plan.nodes.length} instances: ${large.toFixed(2)}, in ${seconds.toFixed(0)} s by the clock`);
  return { cost: { small: median(small), large }, memory: { small: smallMemory, large: largeMemory } };
}

const growths = new Map<number, Promise<Growth>>();

/** Measured once for all cases that tell of it. */
function growthTo(count: number, options: MeasureOptions): Promise<Growth> {
  const known = growths.get(count) ?? grow(count, options);
  growths.set(count, known);
  return known;
}

const growth = (name: string, of: keyof Growth, unit: string, goal: number, count: number): BenchCase => ({
  name,
  unit,
  better: 'less',
  peerName: 'itself with 100 instances',
  goal,
  measure: async (options) => {
    const { small, large } = (await growthTo(count, options))[of];
    return { ours: large, peer: small };
  },
});

const costGrowth = (name: string, count: number): BenchCase =>
  growth(name, 'cost', 'ms of processor time an instance', 0.8, count);

export const orchestration: Bench = {
  name: 'orchestration',
  cases: [
    againstHand,
    ...engines.map(againstEngine),
    costGrowth('instances-1e3', 1000),
    costGrowth('instances-1e4', 10_000),
    // A hundred times the instances in at most twice the memory.
    growth('memory-1e4', 'memory', "MB of the worker's process", 0.5, 10_000),
  ],
  close: async () => {
    const here = await opened;
    await here?.stop();
    await here?.close();
  },
};
