import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

import { offlineHost } from '../../cli/compile-host.ts';
import { estimatePlan, expectationsOf } from '../../cli/estimate.ts';
import { compile, type Compiled } from '../../compiler/index.ts';
import type { PlanNode } from '../../schemas/plan.ts';
import { statePaths } from '../../stack/paths.ts';
import { openStore } from '../../store/index.ts';
import type { Passed } from '../../tracking/door.ts';
import { appendEvents, type RunEvent } from '../../tracking/events.ts';
import { writeExpectations } from '../../tracking/past-costs.ts';
import { writeRun } from '../../tracking/runs.ts';
import { openWorkspace, preamble } from '../compiler/workspace.ts';
import { epsilonflow } from './in-process.ts';

const workspace = openWorkspace();
beforeAll(() => {
  vi.stubEnv('EPSILONFLOW_HOME', join(workspace.folder, 'state'));
  vi.stubEnv('EPSILONFLOW_LEDGER_URL', `sqlite:${join(workspace.folder, 'ledger', 'ledger.db')}`);
  vi.stubEnv('FORCE_COLOR', '');
});
afterAll(() => {
  vi.unstubAllEnvs();
  workspace.remove();
});

interface Told {
  estimate: {
    seconds: number | null;
    bytes: number | null;
    unknown: { seconds: number; bytes: number };
    pastInstances: Record<string, number>;
    error: { instances: number; median: number; worst: number } | null;
    instances: Record<string, { seconds: number | null; bytes: number | null; group: string | null }>;
  } | null;
}

async function estimateOf(file: string, ...options: string[]): Promise<Told['estimate']> {
  const { stdout } = await epsilonflow('plan', file, '--json', ...options);
  return (JSON.parse(stdout) as Told).estimate;
}

const spec = (steps: number, seeds: string, sensitivity = 'benchmark'): string => `${preamble
  .replace('sensitivity: benchmark', `sensitivity: ${sensitivity}`)
  .replace('{ size: 20000 }', '{ size: 20000, budget: { epsilon: 100 } }')}
matrix: { seed: ${seeds} }
steps:
  generator:
    uses: finetune
    with: { model: base, data: reviews, epsilon: 8, steps: ${steps}, batch: 64, seed: "\${{ matrix.seed }}" }
  synthetic:
    uses: generate
    with: { generator: "\${{ steps.generator }}", count: 100, seed: "\${{ matrix.seed }}" }
`;

let number = 0;

interface Took {
  seconds: number;
  bytes: number;
  attempt?: number;
  reused?: boolean;
}

/** A run that leaves what runs leave. */
async function runOf({ plan, records }: Compiled, took: (node: PlanNode) => Took | null): Promise<void> {
  const store = openStore();
  await store.savePlan(plan);
  number += 1;
  const record = { name: plan.name, number, workflowId: `${plan.name}/${number}`, planDigest: plan.digest };
  const startedAt = new Date(Date.UTC(2026, 0, number)).toISOString();
  const directory = writeRun({ ...record, specFile: plan.spec.file, startedAt }, '');
  writeExpectations(directory, expectationsOf(await estimatePlan({ plan, records })));
  const events: RunEvent[] = [{ type: 'run-started', time: 1, ...record }];
  for (const node of plan.nodes) {
    const cost = took(node);
    if (cost === null) continue;
    const { key, kind, label, sensitivity, id, axes } = node;
    const { seconds, bytes, attempt = 1, reused = false } = cost;
    const stage = await store.artifacts.stage('test', label);
    writeFileSync(join(stage.directory, 'content'), Buffer.alloc(bytes));
    const manifest = { key, kind, label, sensitivity, nodeId: id, axes, metrics: {}, summary: {}, privacy: [] };
    await store.artifacts.publish(stage, manifest);
    if (!reused) events.push({ type: 'node-started', time: 2, node: id, attempt });
    events.push({ type: 'node-completed', time: 3, node: id, key, reused, metrics: {}, seconds, attempt });
  }
  appendEvents(directory, events as Passed<RunEvent>[]);
}

const compiled = (name: string, text: string): Promise<Compiled> =>
  compile({ file: workspace.write(name, text) }, offlineHost());

describe('estimates', () => {
  it('are unknown before anything has run, and not asked for offline', async () => {
    const file = workspace.write('first.yaml', spec(100, '[1, 2]'));
    expect(await estimateOf(file)).toMatchObject({
      ...{ seconds: null, bytes: null, unknown: { seconds: 4, bytes: 4 }, error: null },
      instances: { 'generator[seed=1]': { seconds: null, bytes: null } },
    });
    expect((await epsilonflow('plan', file)).stdout).toMatch(/time +unknown of computing, 4 instances to run\n/);
    expect(await estimateOf(file, '--offline')).toBeNull();
  });

  it('come from earlier runs, scaled by the work, and say how far off earlier ones were', async () => {
    const cost = (node: PlanNode): Took =>
      node.kind === 'finetune' ? { seconds: 100, bytes: 4000 } : { seconds: 10, bytes: 1000 };
    await runOf(await compiled('one.yaml', spec(100, '[1, 2]')), cost);
    // Three times the steps, which take four times as long.
    await runOf(await compiled('two.yaml', spec(300, '[11]')), ({ kind }) =>
      kind === 'finetune' ? { seconds: 400, bytes: 4000 } : null,
    );
    const file = workspace.write('three.yaml', spec(100, '[21, 22, 23]'));
    const told = (await estimateOf(file))!;
    const finetuneGroup = told.instances['generator[seed=21]']!.group!;
    expect(told.pastInstances).toEqual({ [finetuneGroup]: 3, [told.instances['synthetic[seed=21]']!.group!]: 2 });
    expect(told.instances['generator[seed=22]']!.seconds).toBeCloseTo(100, 6);
    expect(told.instances['synthetic[seed=22]']).toMatchObject({
      seconds: expect.closeTo(10, 6) as number,
      bytes: expect.closeTo(1000, 6) as number,
    });
    expect(told.seconds).toBeCloseTo(3 * 110, 6);
    expect(told.bytes).toBeCloseTo(3 * 5000, 6);
    expect(told.unknown).toEqual({ seconds: 0, bytes: 0 });
    expect(told.error).toEqual({
      instances: 1,
      median: expect.closeTo(4 / 3, 9) as number,
      worst: expect.closeTo(4 / 3, 9) as number,
    });
    const { stdout: text } = await epsilonflow('plan', file);
    expect(text).toMatch(/generator\[seed=22\] .* 2 min +4\.0 kB /);
    expect(text).toContain('├─ time        about 6 min of computing, 6 instances to run\n├─ disk        about 15 kB\n');
    expect(text).toContain(`past instances: ${finetuneGroup}: 3; `);
    expect(text).toContain('actual / estimated time 1.33 in the median, 1.33 at worst, of 1 earlier instance\n');
  });

  it('leave out what was reused, went on from a checkpoint or has a result already', async () => {
    const before = (await estimateOf(workspace.write('four.yaml', spec(100, '[31]'))))!;
    await runOf(await compiled('five.yaml', spec(100, '[41]')), ({ kind }) =>
      kind === 'finetune' ? { seconds: 0.1, bytes: 1, reused: true } : { seconds: 0.1, bytes: 1, attempt: 2 },
    );
    expect(await estimateOf(workspace.write('four.yaml', spec(100, '[31]')))).toEqual(before);
    // What private data went into counts as there only when the ledger holds what paid for it.
    expect(Object.keys(before.instances)).toEqual(['generator[seed=31]', 'synthetic[seed=31]']);
  });
});

it('tells no size of a result that private data went into and no mechanism protects', async () => {
  const waived = `waive: [{ name: non-private-training, reason: a test }]\n`;
  const text = (seed: number): string =>
    spec(100, `[${seed}]`, 'private')
      .replace('epsilon: 8', 'epsilon: .inf')
      .replace('name: trial\n', `name: trial\n${waived}`);
  await runOf(await compiled('private.yaml', text(51)), () => ({ seconds: 7, bytes: 12_345 }));
  const told = (await estimateOf(workspace.write('again.yaml', text(52))))!;
  expect(told.instances['generator[seed=52]']).toMatchObject({ seconds: expect.closeTo(7, 6) as number, bytes: null });
  expect(JSON.stringify(told)).not.toContain('12345');
});

it('says in `status` how much time a run has left, or that there is no estimate here', async () => {
  const trial = await compiled('left.yaml', spec(100, '[61]'));
  await runOf(trial, ({ kind }) => (kind === 'finetune' ? { seconds: 100, bytes: 10 } : null));
  const name = `${trial.plan.name}/${number}`;
  expect((await epsilonflow('status', name)).stdout).toMatch(/ {2}about .* left\n/);
  rmSync(join(statePaths.run(trial.plan.name, number), 'estimate.json'));
  expect((await epsilonflow('status', name)).stdout).toContain('  time left: no estimate here\n');
  expect(JSON.parse((await epsilonflow('status', name, '--json')).stdout)).toMatchObject({ timeLeft: null });
});
