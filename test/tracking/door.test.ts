import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { PlanNode } from '../../schemas/plan.ts';
import { doorOf, mayLeave } from '../../tracking/door.ts';
import { makeUpRun, ownState, type Wishes } from './made-up-run.ts';

let removeState: () => void;
beforeEach(() => {
  removeState = ownState();
});
afterEach(() => removeState());

const planOf = async (wishes: Wishes) => (await makeUpRun({ seeds: [1], epsilons: [8], ...wishes })).plan;
const step = (nodes: PlanNode[], name: string): PlanNode => nodes.find((node) => node.step === name)!;

describe('the door', () => {
  it('holds back what is non-private of private data, and nothing else', () => {
    const leaving = (['public', 'dp', 'non-private'] as const).flatMap((label) =>
      (['public', 'benchmark', 'private'] as const)
        .filter((sensitivity) => mayLeave({ label, sensitivity }))
        .map((s) => `${label} of ${s}`),
    );
    expect(leaving).toEqual([
      'public of public',
      'public of benchmark',
      'public of private',
      'dp of public',
      'dp of benchmark',
      'dp of private',
      'non-private of public',
      'non-private of benchmark',
    ]);
  });

  it('lets no test metric of private data out, but what the clock and the plan say', async () => {
    const plan = await planOf({ sensitivity: 'private' });
    const door = doorOf(plan, step(plan.nodes, 'on-synthetic'));
    expect(door.metrics({ accuracy: 0.9, testRecords: 500, seconds: 3 })).toEqual({ seconds: 3 });
    expect(doorOf(plan, step(plan.nodes, 'comparison')).content({ mean: 0.9 })).toBeNull();
  });

  it('holds back the training loss of a DP node, whose artifact may leave', async () => {
    const plan = await planOf({ sensitivity: 'private' });
    const door = doorOf(plan, step(plan.nodes, 'generator'));
    expect(door.curve('loss')).toBe(false);
    expect(door.metrics({ loss: 2.5, steps: 50 })).toEqual({ steps: 50 });
    expect(door.content({ weights: 1 })).not.toBeNull();
    expect(doorOf(plan, step(plan.nodes, 'synthetic')).metrics({ records: 40 })).toEqual({ records: 40 });
  });

  it('opens for test metrics under the waiver that names them, and for nothing more', async () => {
    const plan = await planOf({ sensitivity: 'private', waivers: ['test-metrics'] });
    const classifier = doorOf(plan, step(plan.nodes, 'on-real'));
    expect(classifier.metrics({ accuracy: 0.9 })).toEqual({ accuracy: 0.9 });
    expect(classifier.curve('loss')).toBe(false);
    expect(classifier.content({ weights: 1 })).toBeNull();
    expect(doorOf(plan, step(plan.nodes, 'comparison')).content({ mean: 0.9 })).not.toBeNull();
  });

  it('says why a node failed, without the message when it works on private data', async () => {
    const failure = { code: 'STEP_FAILED', message: 'row 17 says "my secret"' };
    const open = await planOf({ sensitivity: 'benchmark' });
    expect(doorOf(open, step(open.nodes, 'on-real')).failure(failure)).toEqual(failure);
    const shut = await planOf({ sensitivity: 'private' });
    expect(doorOf(shut, step(shut.nodes, 'on-real')).failure(failure)).toMatchObject({ code: 'STEP_FAILED' });
    expect(doorOf(shut, step(shut.nodes, 'on-real')).failure(failure).message).not.toContain('secret');
  });
});
