/**
 * @file What an instance costs besides its own work: processor time of worker and Temporal server together, which other
 * programs of the machine change less than time by the clock. Steps do nothing but write their lines of the event log.
 *
 * Engines of others on the same graph are to come.
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
import { median, type Bench, type BenchCase } from './bench-case.ts';

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

/** Chains of four steps, of which a tenth each ends in a comparison. */
function planOf(name: string, count: number): Plan {
  const chains = Math.ceil(count / 4.1);
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

const growth = (name: string, count: number): BenchCase => ({
  name,
  unit: 'ms of processor time an instance',
  better: 'less',
  peerName: 'itself with 100 instances',
  goal: 0.8,
  measure: async ({ quick, say }) => {
    const here = await place();
    const small: number[] = [];
    for (let round = 0; round < (quick ? 1 : 5); round += 1) {
      const plan = freshPlan(100);
      small.push(await costOf(plan, () => runOurs(here, plan)));
    }
    say(`  100 instances: ${small.map((cost) => cost.toFixed(2)).join(', ')}`);
    const large = freshPlan(quick ? count / 10 : count);
    return { ours: await costOf(large, () => runOurs(here, large)), peer: median(small) };
  },
});

export const orchestration: Bench = {
  name: 'orchestration',
  cases: [againstHand, growth('instances-1e3', 1000), growth('instances-1e4', 10_000)],
  close: async () => {
    const here = await opened;
    await here?.stop();
    await here?.close();
  },
};
