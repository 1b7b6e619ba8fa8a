import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { errorCodes } from '../../schemas/error-codes.ts';
import type { PlanNode } from '../../schemas/plan.ts';
import { doorOf, mayLeave, passEvents } from '../../tracking/door.ts';
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

  it('takes no arm of a comparison for what it is named like', async () => {
    const plan = await planOf({ sensitivity: 'private' });
    const door = doorOf(plan, step(plan.nodes, 'comparison'));
    expect(door.metrics({ steps: 0.9, epsilon: 0.8, seconds: 0.7 })).toEqual({});
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

  it('opens for measures against private records under their own waiver alone', async () => {
    const plan = await planOf({ sensitivity: 'private' });
    const measuring = { ...step(plan.nodes, 'on-synthetic'), kind: 'measure' } as unknown as PlanNode;
    for (const waivers of [[], ['test-metrics']]) {
      const shut = doorOf(plan, { ...measuring, waivers });
      expect([shut.metrics({ selfBleu: 0.4, seconds: 3 }), shut.content({})]).toEqual([{ seconds: 3 }, null]);
    }
    const waived = doorOf(plan, { ...measuring, waivers: ['measures'] });
    expect(waived.metrics({ selfBleu: 0.4 })).toEqual({ selfBleu: 0.4 });
    expect(waived.content({})).not.toBeNull();
    expect(waived.curve('selfBleu')).toBe(false);
    expect(waived.progress({ phase: 'evaluate', done: 3, total: 9, unit: 'records' })).toMatchObject({ total: 0 });
    const classifier = step(plan.nodes, 'on-synthetic');
    expect(doorOf(plan, { ...classifier, waivers: ['measures'] }).metrics({ accuracy: 0.9 })).toEqual({});
  });

  it('says why a node failed, without the message when it works on private data', async () => {
    const failure = { code: 'STEP_FAILED', message: 'row 17 says "my secret"' };
    const open = await planOf({ sensitivity: 'benchmark' });
    expect(doorOf(open, step(open.nodes, 'on-real')).failure(failure)).toMatchObject(failure);
    const shut = await planOf({ sensitivity: 'private' });
    expect(doorOf(shut, step(shut.nodes, 'on-real')).failure(failure)).toMatchObject({ code: 'STEP_FAILED' });
    expect(doorOf(shut, step(shut.nodes, 'on-real')).failure(failure).message).not.toContain('secret');
  });

  it('lets metrics of a charged release out, and nothing else of a step that reads private records', async () => {
    const plan = await planOf({ sensitivity: 'private' });
    const node = step(plan.nodes, 'on-synthetic');
    const release = { dataset: 'speeches', mechanism: { kind: 'discrete-laplace', scale: 10, sensitivity: 1 } };
    const released = { ...node, label: 'dp', release } as unknown as PlanNode;
    const door = doorOf(plan, released);
    const metrics = {
      accuracy: 0.9,
      accuracyLow: 0.8,
      accuracyHigh: 0.95,
      macroF1: 0.9,
      majority: 0.5,
      testRecords: 501,
    };
    expect(door.metrics({ ...metrics, trainRecords: 5000, seconds: 3 })).toEqual({ ...metrics, seconds: 3 });
    expect(door.curve('loss')).toBe(false);
    expect(door.progress({ phase: 'evaluate', done: 300, total: 500, unit: 'records' })).toEqual({
      phase: 'evaluate',
      done: 0,
      total: 0,
      unit: 'records',
    });
    // A release on top of training without DP makes nothing private.
    expect(doorOf(plan, { ...released, label: 'non-private' }).metrics(metrics)).toEqual({});
  });

  it('counts planned steps of a step on private records, no records and no microbatches', async () => {
    const plan = await planOf({ sensitivity: 'private' });
    const door = doorOf(plan, step(plan.nodes, 'generator'));
    const counted = { phase: 'train', total: 50, unit: 'steps' };
    expect(door.progress({ ...counted, done: 7.25 })).toEqual({ ...counted, done: 7 });
    expect(door.progress({ phase: 'index', done: 12, total: 4321, unit: 'records' })).toEqual({
      phase: 'index',
      done: 0,
      total: 0,
      unit: 'records',
    });
    const open = await planOf({ sensitivity: 'benchmark' });
    const all = { phase: 'train', done: 7.25, total: 50, unit: 'steps' };
    expect(doorOf(open, step(open.nodes, 'generator')).progress(all)).toEqual(all);
  });

  it('keeps the size of a model where its vocabulary may tell of private records', async () => {
    const plan = await planOf({ sensitivity: 'private' });
    const generator = step(plan.nodes, 'generator');
    const sizes = { parameters: 5_123_456, trainedParameters: 123_456 };
    const made = { ...generator, kind: 'pretrain', inputs: { corpus: { nodes: ['clean'] } } } as unknown as PlanNode;
    const unfit = { code: 'MODEL_UNFIT', message: 'it takes 123.4 MB', hint: null };
    for (const node of [generator, made]) {
      const shut = doorOf(plan, { ...node, label: 'non-private', sensitivity: 'private' });
      expect(shut.metrics({ ...sizes, steps: 50 })).toEqual({ steps: 50 });
      expect(shut.curve('parameters')).toBe(false);
      for (const code of ['MODEL_UNFIT', 'MODEL_INVALID']) {
        expect(shut.failure({ ...unfit, code }).message).not.toContain('123.4');
      }
      expect(doorOf(plan, node).metrics(sizes)).toEqual(sizes);
      expect(doorOf(plan, node).failure(unfit)).toEqual(unfit);
      const open = doorOf(plan, { ...node, label: 'non-private', sensitivity: 'benchmark' });
      expect(open.metrics(sizes)).toEqual(sizes);
    }
  });

  it('tells the messages of codes that cannot quote a record, of private steps too', async () => {
    const plan = await planOf({ sensitivity: 'private' });
    const door = doorOf(plan, step(plan.nodes, 'generator'));
    const tellable = Object.keys(errorCodes).filter(
      (code) => door.failure({ code, message: 'what happened' }).message === 'what happened',
    );
    expect(tellable.sort((a, b) => a.localeCompare(b))).toEqual([
      'BUDGET_REFUSED',
      'DATA_CHANGED',
      'DATA_COLUMN_MISSING',
      'DATA_FILE_MISSING',
      'DATASET_UNREGISTERED',
      'FENCED',
      'INPUT_MISSING',
      'JOB_CRASHED',
      'LEDGER_CORRUPT',
      'LEDGER_MISMATCH',
      'LEDGER_ROLLED_BACK',
      'LEDGER_TOO_NEW',
      'MECHANISM_MISMATCH',
      'MODEL_INVALID',
      'MODEL_MISSING',
      'MODEL_UNFIT',
      'NOISE_KEY_LOST',
      'OUT_OF_MEMORY',
      'PLAN_ALTERED',
      'PLAN_MISSING',
      'RECEIPT_INVALID',
      'SERVICE_UNREACHABLE',
      'SPEC_COMPARE',
      'SPEC_CYCLE',
      'SPEC_DUPLICATE_KEY',
      'SPEC_EXPRESSION',
      'SPEC_FILE_MISSING',
      'SPEC_MATRIX',
      'SPEC_MISSING_KEY',
      'SPEC_PRIVACY',
      'SPEC_REFERENCE_KIND',
      'SPEC_SCHEMA',
      'SPEC_SYNTAX',
      'SPEC_UNKNOWN_KEY',
      'SPEC_UNKNOWN_REFERENCE',
      'SPEC_UNUSED_AXIS',
      'SPENDING_UNCONFIRMED',
      'STORE_REFUSED',
    ]);
    expect(door.failure({ code: 'NO_SUCH_CODE', message: 'x' }).message).not.toBe('x');
    // What was withheld once is not withheld again: the class of the error stays readable.
    const once = door.failure({ code: 'TypeError', message: 'my secret', hint: 'my secret' });
    expect(once).toMatchObject({ code: 'TypeError', hint: null });
    expect(once.message).toMatch(/^It failed with TypeError\. [^.]+\.$/);
    expect(door.failure(once)).toEqual(once);
    const smuggled = { code: 'STEP_FAILED', message: `my secret. ${once.message}` };
    expect(door.failure(smuggled).message).not.toContain('secret');
    // Full and refused disks are told of without the path.
    for (const code of ['DISK_FULL', 'STORE_READ_ONLY', 'AUDIT_EXCEEDED'] as const) {
      const restated = door.failure({ code, message: '/home/secret is full', hint: 'Free some.' });
      expect(restated).toEqual({ code, message: errorCodes[code].summary, hint: 'Free some.' });
    }
  });

  it('keeps metrics, curves and messages of private steps out of the log of a run', async () => {
    const { plan } = await makeUpRun({ seeds: [1], epsilons: [8], sensitivity: 'private', failing: [] });
    const generator = step(plan.nodes, 'generator').id;
    const passed = passEvents(plan, [
      { type: 'metric', time: 1, node: generator, name: 'trainLoss', value: 2, step: 1 },
      { type: 'metric', time: 1, node: generator, name: 'learningRate', value: 2, step: 1 },
      { type: 'metric', time: 1, node: 'no node of the plan', name: 'learningRate', value: 2, step: 1 },
      { type: 'node-failed', time: 2, node: generator, code: 'STEP_FAILED', message: 'my secret' },
    ]);
    expect(JSON.stringify(passed)).not.toMatch(/trainLoss|secret|no node/);
    expect(passed.map(({ type }) => type)).toEqual(['metric', 'node-failed']);
  });

  it('lets only figures that may leave into the manifest of a shared artifact', async () => {
    const plan = await planOf({ sensitivity: 'private' });
    const said = { metrics: { steps: 50, loss: 2.5 }, summary: { words: ['secret'] } };
    expect(doorOf(plan, step(plan.nodes, 'generator')).figures(said)).toEqual({ metrics: { steps: 50 }, summary: {} });
    // Non-private results lie in the private store.
    expect(doorOf(plan, step(plan.nodes, 'on-real')).figures(said)).toEqual(said);
  });
});
