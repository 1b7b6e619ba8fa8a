/** @file A run that could have been: its plan, event log and artifacts, written with the real store and log. */

import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openLedger, sealMechanism, type EnvelopeEntry, type Ledger } from '../../privacy/ledger/index.ts';
import { entryId } from '../../privacy/ledger/receipt.ts';
import { lineageOf } from '../../schemas/lineage.ts';
import type { AuditedMembership, AuditFindings } from '../../schemas/audit.ts';
import { planDigest } from '../../schemas/plan-digest.ts';
import type {
  Label,
  NodePrivacy,
  Plan,
  PlanInput,
  PlanNode,
  Sensitivity,
  StepKind,
  TrainingMechanism,
} from '../../schemas/plan.ts';
import { openStore, type Store } from '../../store/index.ts';
import type { Passed } from '../../tracking/door.ts';
import { appendEvents, type RunEvent } from '../../tracking/events.ts';
import { writeRun, type RunRecord } from '../../tracking/runs.ts';

export interface MadeUpRun {
  plan: Plan;
  store: Store;
  directory: string;
  record: RunRecord;
  events: RunEvent[];
}

export interface Wishes {
  name?: string;
  number?: number;
  sensitivity?: Sensitivity;
  seeds?: number[];
  epsilons?: (number | 'inf')[];
  /** Ids of nodes that end in failure; what depends on them is skipped. */
  failing?: string[];
  waivers?: string[];
  /** Whether each synthetic set is measured, and audited. */
  measured?: boolean;
  /** Leaves the run unfinished after that many events. */
  stopAfter?: number;
}

/** Points EPSILONFLOW_HOME to an empty folder; call the result to remove it. */
export function ownState(): () => void {
  const home = mkdtempSync(join(tmpdir(), 'epsilonflow-tracking-'));
  const before = process.env['EPSILONFLOW_HOME'];
  process.env['EPSILONFLOW_HOME'] = home;
  return () => {
    if (before === undefined) delete process.env['EPSILONFLOW_HOME'];
    else process.env['EPSILONFLOW_HOME'] = before;
    rmSync(home, { recursive: true, force: true });
  };
}

/** Events as they are: who reads a log must not rely on what is kept out of it. */
export const writeEvents = (directory: string, events: readonly RunEvent[]): void =>
  appendEvents(directory, events as Passed<RunEvent>[]);

const sha = (text: string): string => createHash('sha256').update(text).digest('hex');

export const start = Date.UTC(2026, 0, 5, 9, 0, 0);

export async function makeUpRun(wishes: Wishes = {}): Promise<MadeUpRun> {
  const plan = makePlan(wishes);
  const store = openStore();
  await store.savePlan(plan);
  const record: RunRecord = {
    name: plan.name,
    number: wishes.number ?? 1,
    workflowId: `epsilonflow/${plan.name}/${wishes.number ?? 1}`,
    planDigest: plan.digest,
    specFile: '/home/reviewer/experiments/made-up.yaml',
    startedAt: new Date(start).toISOString(),
  };
  const directory = writeRun(record, 'version: 1\n');
  const events = await playEvents(plan, store, record, wishes);
  writeEvents(directory, events.slice(0, wishes.stopAfter));
  return { plan, store, directory, record, events };
}

function makePlan({
  name = 'made-up',
  sensitivity = 'benchmark',
  seeds = [1, 2],
  epsilons = [3, 8, 'inf'],
  waivers = [],
  measured = false,
}: Wishes): Plan {
  const nodes: PlanNode[] = [];
  const add = (
    step: string,
    kind: StepKind,
    axes: PlanNode['axes'],
    inputs: Record<string, PlanInput>,
    label: Label,
    params: object,
    privacy?: NodePrivacy,
  ): string => {
    const id = `${step}[${Object.entries(axes)
      .map(([axis, value]) => `${axis}=${value}`)
      .join(',')}]`;
    nodes.push({
      id,
      slug: id.replace(/[^a-z0-9]+/g, '-').replace(/-$/, ''),
      step,
      kind,
      kindVersion: 1,
      key: sha(name + sensitivity + id),
      axes,
      params: params as PlanNode['params'],
      inputs,
      needs: Object.values(inputs).flatMap((input) => ('nodes' in input ? input.nodes : [])),
      label,
      sensitivity,
      waivers: ['train-classifier', 'compare', 'measure', 'audit'].includes(kind) ? waivers : [],
      position: { file: 'made-up.yaml', line: 1, column: 1 },
      cached: null,
      ...(privacy ? { privacy } : {}),
    });
    return id;
  };
  const privacyFor = (epsilon: number | 'inf'): NodePrivacy => {
    const mechanism: TrainingMechanism =
      epsilon === 'inf'
        ? { kind: 'unbounded' }
        : {
            kind: 'poisson-gaussian',
            samplingProbability: 0.02,
            noiseMultiplier: epsilon === 3 ? 0.7 : 0.5,
            steps: 50,
            clipNorm: 0.5,
            expectedBatchSize: 1024,
            arithmetic: 'exact',
          };
    return {
      dataset: 'speeches',
      targetEpsilon: epsilon,
      epsilon: epsilon === 'inf' ? null : epsilon - 0.004,
      delta: 1.8e-6,
      accountant: 'rdp',
      mechanism,
      digest: sealMechanism({ digest: sha('speeches'), delta: 1.8e-6 }, mechanism),
    };
  };
  for (const epsilon of epsilons) {
    const real: string[] = [];
    const synthetic: string[] = [];
    for (const seed of seeds) {
      const axes = { dataset: 'speeches', epsilon, seed };
      const dp = epsilon === 'inf' ? 'non-private' : 'dp';
      const generator = add(
        'generator',
        'finetune',
        axes,
        { data: { dataset: 'speeches' }, model: { model: 'base' } },
        dp,
        {
          method: { kind: 'lora', rank: 8, targets: ['q', 'k'], lr: 0.005 },
          objective: 'prefix-lm',
          lossDivisor: 'tokens',
          optimizer: { kind: 'adam', beta1: 0.9, beta2: 0.98, epsilon: 1e-8 },
          epsilon,
          steps: 50,
          batch: 1024,
          clip: 0.5,
          seed,
        },
        privacyFor(epsilon),
      );
      const set = add(
        'synthetic',
        'generate',
        axes,
        { generator: { nodes: [generator] }, model: { model: 'base' } },
        dp,
        { count: 40, temperature: 0.8, topP: 1, repetitionPenalty: 1, banned: [], seed },
      );
      if (measured) {
        const inputs = { synthetic: { nodes: [set] }, real: { dataset: 'speeches' } };
        add('nearness', 'measure', axes, inputs, 'non-private', { rows: 20, similarity: 0.8, resamples: 10, seed });
        const audited = {
          synthetic: { nodes: [set] },
          generator: { nodes: [generator] },
          data: { dataset: 'speeches' },
        };
        add('audited', 'audit', axes, audited, 'non-private', { canaries: 100, seed });
      }
      synthetic.push(
        add(
          'on-synthetic',
          'train-classifier',
          axes,
          { train: { nodes: [set] }, test: { dataset: 'speeches' } },
          'non-private',
          { family: 'word-cnn', epsilon: 'inf', seed },
        ),
      );
      real.push(
        add(
          'on-real',
          'train-classifier',
          axes,
          { train: { dataset: 'speeches' }, test: { dataset: 'speeches' } },
          'non-private',
          { family: 'word-cnn', epsilon, seed },
          privacyFor(epsilon),
        ),
      );
    }
    add(
      'comparison',
      'compare',
      { dataset: 'speeches', epsilon },
      { 'arms.real-dp': { nodes: real }, 'arms.synthetic': { nodes: synthetic } },
      'non-private',
      { metric: 'accuracy', over: ['seed'] },
    );
  }
  const body = {
    planVersion: 1 as const,
    name,
    spec: { file: 'made-up.yaml', profile: null },
    failure: 'continue' as const,
    waivers: waivers.map((waiver) => ({ name: waiver, reason: 'agreed with the officer' })),
    datasets: {
      speeches: {
        name: 'speeches',
        files: {
          train: { path: '/data/speeches/train.jsonl', format: 'jsonl' as const, compression: 'none' as const },
          test: { path: '/data/speeches/test.jsonl', format: 'jsonl' as const, compression: 'none' as const },
        },
        text: 'text',
        label: { column: 'label', values: ['before-1910', 'after-1910'] },
        sensitivity,
        privacy: { unit: 'record' as const, size: 50490, counted: false, delta: 1.8e-6, budget: null },
        digest: sha('speeches'),
      },
    },
    models: { base: { name: 'base', path: '/models/base', digest: sha('base') } },
    nodes,
    privacy: {
      speeches: {
        before: 0,
        experiment: 11.5,
        after: null,
        unbounded: epsilons.includes('inf') ? 2 * seeds.length : 0,
        unboundedBefore: 0,
        budget: null,
        delta: 1.8e-6,
        rule: null,
      },
    },
  };
  const plan: Plan = { ...body, digest: '' };
  return { ...plan, digest: planDigest(plan) };
}

/** Test accuracies of the arms, by epsilon; a seed moves them a little. */
const accuracies: Record<string, Record<string, number>> = {
  'on-real': { 3: 0.791, 8: 0.822, inf: 0.889 },
  'on-synthetic': { 3: 0.703, 8: 0.712, inf: 0.731 },
};

async function playEvents(plan: Plan, store: Store, record: RunRecord, { failing = [] }: Wishes): Promise<RunEvent[]> {
  const events: RunEvent[] = [
    {
      type: 'run-started',
      time: start,
      name: record.name,
      number: 1,
      workflowId: record.workflowId,
      planDigest: plan.digest,
    },
  ];
  const lost = new Set<string>();
  const found = new Map<string, number>();
  let time = start + 1000;
  for (const node of plan.nodes) {
    const broken = node.needs.filter((id) => lost.has(id));
    if (broken.length > 0) {
      lost.add(node.id);
      events.push({ type: 'node-skipped', time, node: node.id, because: `${broken[0]!} failed` });
      continue;
    }
    events.push({ type: 'node-started', time, node: node.id, attempt: 1 });
    if (failing.includes(node.id)) {
      lost.add(node.id);
      events.push({
        type: 'node-failed',
        time: time + 500,
        node: node.id,
        code: 'STEP_FAILED',
        message: 'row 17 says "my secret"',
      });
      continue;
    }
    if (node.kind === 'finetune') {
      for (let step = 1; step <= 5; step += 1) {
        events.push({
          type: 'metric',
          time: time + step * 100,
          node: node.id,
          name: 'loss',
          value: 4 - step * 0.3,
          step,
        });
      }
    }
    const metrics = await writeArtifact(plan, node, store, found);
    events.push({
      type: 'node-completed',
      time: time + 1500,
      node: node.id,
      key: node.key,
      reused: node.step === 'on-real' && node.axes['epsilon'] === 'inf',
      metrics,
      seconds: node.kind === 'finetune' ? 92.5 : 1.5,
      attempt: 1,
      ...(node.privacy ? { ledgerEntries: [paidEntry(plan, node)] } : {}),
    });
    time += 2000;
  }
  events.push({ type: 'run-completed', time: time + 100, status: lost.size > 0 ? 'failed' : 'completed' });
  return events;
}

const membership = (value: number): AuditedMembership => ({
  area: { value, low: 0.5, high: 0.625 },
  rates: [{ falseAlarms: 0.01, rate: 0.025, low: 0.02, high: 0.03 }],
});

const auditFindings: AuditFindings = {
  claim: { epsilon: 7.996, delta: 1.8e-6, epsilonOfBound: 11.25 },
  bound: { epsilon: 0.375, delta: 1e-10, failure: 1e-6, canaries: 100, guesses: 50, correct: 44, most: 2.125 },
  repeated: [{ repetitions: 10, exposures: [2, 3.5], leaked: { value: 0.5, low: 0.013, high: 0.987 } }],
  ...{ mostExposure: 12, samples: 40, rows: 30, longestRun: { train: 9, test: 4 } },
  membership: { model: membership(0.5625), synthetic: membership(0.53125) },
};

async function writeArtifact(
  plan: Plan,
  node: PlanNode,
  store: Store,
  found: Map<string, number>,
): Promise<Record<string, number>> {
  const stage = await store.artifacts.stage('made-up', node.label);
  const write = (file: string, content: string): void => writeFileSync(join(stage.directory, file), content);
  let metrics: Record<string, number> = {};
  let summary: Record<string, unknown> = {};
  switch (node.kind) {
    case 'finetune':
      write('adapter_config.json', '{"peft_type":"LORA"}\n');
      write('adapter_model.safetensors', 'weights');
      write('epsilonflow.json', '{"labels":["before-1910","after-1910"]}\n');
      metrics = { loss: 2.5, steps: 50 };
      break;
    case 'generate':
      write(
        'synthetic.jsonl',
        syntheticRows(40)
          .map((row) => JSON.stringify(row) + '\n')
          .join(''),
      );
      write('labels.json', JSON.stringify(['before-1910', 'after-1910']));
      metrics = { records: 40, truncated: 2 };
      break;
    case 'train-classifier': {
      const accuracy =
        accuracies[node.step]![String(node.axes['epsilon'])]! + (Number(node.axes['seed']) - 1.5) * 0.006;
      found.set(node.id, accuracy);
      metrics = { accuracy, macroF1: accuracy - 0.01, majority: 0.538, testRecords: 5000 };
      write(
        'metrics.json',
        JSON.stringify({
          ...metrics,
          confusion: [
            [2100, 590],
            [850, 1460],
          ],
        }),
      );
      break;
    }
    case 'decontaminate':
      write('documents.jsonl', '');
      break;
    case 'pretrain':
      write('config.json', '{}');
      break;
    case 'measure': {
      const selfBleu = { synthetic: { value: 0.7125, error: 0.02 }, ceiling: { value: 0.41, error: 0.03 } };
      const leftOut = { labelFidelity: 'it takes training rows' };
      write(
        'measures.json',
        JSON.stringify({ rows: 20, resamples: 10, vectors: null, measures: { selfBleu }, leftOut }),
      );
      metrics = { selfBleu: 0.7125 };
      break;
    }
    case 'audit':
      summary = { ...auditFindings };
      metrics = { epsilonBound: 0.7125 };
      break;
    case 'compare': {
      const arms = Object.fromEntries(
        Object.entries(node.inputs).map(([role, input]) => {
          const values = 'nodes' in input ? input.nodes.map((id) => found.get(id)!) : [];
          const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
          return [
            role.replace('arms.', ''),
            { mean, n: values.length, values, low: mean - 0.012, high: mean + 0.012, sd: 0.004 },
          ];
        }),
      );
      write('comparison.json', JSON.stringify({ metric: 'accuracy', over: ['seed'], arms, majority: 0.538 }));
      break;
    }
  }
  await store.artifacts.publish(stage, {
    key: node.key,
    kind: node.kind,
    label: node.label,
    sensitivity: node.sensitivity,
    nodeId: node.id,
    axes: node.axes,
    metrics,
    summary,
    privacy: node.privacy ? [node.privacy] : [],
    paidBy: lineageOf(plan)
      .privacyBehind(node.id)
      .map(({ node: paid }) => paidEntry(plan, paid))
      .sort(),
    ...(node.privacy
      ? {
          charges: [
            {
              entryId: paidEntry(plan, node),
              workflowId: `epsilonflow/${plan.name}/1`,
              dataset: 'speeches',
              nodeKey: node.key,
              mechanismDigest: node.privacy.digest,
              proof: null,
            },
          ],
        }
      : {}),
  });
  return metrics;
}

const entryOf = ({ id, key, privacy }: PlanNode): EnvelopeEntry => ({
  dataset: 'speeches',
  nodeId: id,
  nodeKey: key,
  keyEpoch: 0,
  mechanism: privacy!.mechanism,
  mechanismDigest: privacy!.digest,
});

/** Id of the ledger entry that `payFor` makes for a node. */
const paidEntry = (plan: Plan, node: PlanNode): string => entryId(`epsilonflow/${plan.name}/1`, entryOf(node));

/** A ledger in which the run's DP nodes are paid for, in the state folder of the test. */
export async function payFor({ plan, record }: MadeUpRun): Promise<Ledger> {
  const ledger = await openLedger(`sqlite:${join(process.env['EPSILONFLOW_HOME']!, 'ledger.db')}`);
  const paid = plan.nodes.filter((node) => node.privacy);
  const receipts = await ledger.reserve({
    workflowId: record.workflowId,
    experiment: plan.name,
    planDigest: plan.digest,
    accounts: [
      { dataset: 'speeches', digest: plan.datasets['speeches']!.digest, delta: 1.8e-6, budget: null, benchmark: true },
    ],
    entries: paid.map(entryOf),
  });
  for (const receipt of receipts) {
    const { mechanism } = paid.find(({ key }) => key === receipt.nodeKey)!.privacy!;
    const token = await ledger.begin(receipt, 1, null);
    if (mechanism.kind === 'unbounded') {
      await ledger.commit(receipt, token, null);
      continue;
    }
    const { kind: _, ...done } = mechanism;
    await ledger.recordStep(receipt, token, done.steps - 1, '5'.repeat(64));
    await ledger.commit(receipt, token, { sampler: 'poisson', ...done });
  }
  return ledger;
}

/** Rows with what a model may write: markup, quotes, pipes, other alphabets. */
export const syntheticRows = (count: number): { text: string; label: string }[] =>
  Array.from({ length: count }, (_, index) => ({
    text: [
      'the congress has <b>provided</b> & the "people" | agree .',
      'we will build a new economy for the next generation .',
      'the treaty with spain was signed in the city of méxico — ε .',
      '<script>alert(1)</script> the secretary of the treasury `reports` .',
    ][index % 4]!.concat(` ${index}`),
    label: index % 2 === 0 ? 'before-1910' : 'after-1910',
  }));
