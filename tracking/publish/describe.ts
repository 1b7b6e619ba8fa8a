/** @file What a run and its instances look like in MLflow: pure functions from plan and results to tags, params, metrics. */

import { closeSync, existsSync, openSync, readFileSync, readSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { basename, join } from 'node:path';
import { accountOf } from '../../schemas/charges.ts';
import type { KnownHead } from '../../privacy/ledger/index.ts';
import type { PlanDataset, PlanNode } from '../../schemas/plan.ts';
import { doorOf, type Passed } from '../door.ts';
import type { NodeSummary } from '../run-summary.ts';
import { describeMechanism, showEpsilon } from '../wording.ts';
import type { DatasetInput, MlflowRunStatus } from '../mlflow/client.ts';
import { tagOfHead } from '../mlflow/ledger-heads.ts';
import { cleanKey, flattenParams, type MlflowMetric, type MlflowTag } from '../mlflow/values.ts';
import { summaryMarkdown } from '../report/summary.ts';
import { shownPlan } from './shown-plan.ts';
import type { RunResults } from '../results.ts';
import { ledgerHeadFile, type RunRecord } from '../runs.ts';

export interface ArtifactFile {
  path: string;
  content: Passed<Uint8Array>;
}

/** All that MLflow gets to see of one run, parent or child. */
export interface TrackedRun {
  /** Slug of the node; empty for the parent. */
  slug: string;
  name: string;
  status: MlflowRunStatus;
  startTime: number;
  endTime: number | null;
  tags: MlflowTag[];
  params: MlflowTag[];
  metrics: MlflowMetric[];
  /** Points of per-step curves by name, in log order. */
  curves: Map<string, MlflowMetric[]>;
  inputs: DatasetInput[];
  artifacts: ArtifactFile[];
}

export const runTag = 'epsilonflow.run';
export const nodeTag = 'epsilonflow.node';

/** Rows of a synthetic set that are shown: the first, not a choice. */
const sampleRows = 20;

/** Names a run across clones and servers: no two runs share it, and a repeated publication finds it again. */
export function runIdentity(record: RunRecord): string {
  const { name, number, workflowId, planDigest, startedAt } = record;
  return createHash('sha256')
    .update(JSON.stringify([name, number, workflowId, planDigest, startedAt]))
    .digest('hex')
    .slice(0, 32);
}

export function describeParent(record: RunRecord, results: RunResults, runDirectory: string): TrackedRun {
  const { run, plan } = results;
  const startTime = run.startedAt ?? Date.parse(record.startedAt);
  const endTime = run.status === 'running' ? null : run.endedAt;
  const summaries = [...results.nodes.values()];
  const count = (test: (node: NodeSummary) => boolean): number => summaries.filter(test).length;
  const numbers: Record<string, number> =
    endTime === null
      ? {}
      : {
          instances: plan.nodes.length,
          completed: count((node) => node.status === 'completed'),
          reused: count((node) => node.reused),
          failed: count((node) => node.status === 'failed'),
          seconds: (endTime - startTime) / 1000,
        };
  return {
    slug: '',
    name: `${record.name}/${record.number}`,
    status: parentStatus[run.status],
    startTime,
    endTime,
    tags: tagsOf({
      ...commonTags(record),
      [nodeTag]: '-',
      'epsilonflow.level': 'run',
      'epsilonflow.profile': plan.spec.profile,
      'epsilonflow.waivers': plan.waivers.map(({ name, reason }) => `${name}: ${reason}`).join('; ') || null,
      ...Object.fromEntries(
        Object.entries(plan.privacy).flatMap(([dataset, account]) => [
          [`epsilonflow.epsilon.${dataset}`, showEpsilon(account.unbounded > 0 ? null : account.experiment)],
          [`epsilonflow.delta.${dataset}`, String(account.delta)],
        ]),
      ),
      'mlflow.note.content': summaryMarkdown(results),
    }).concat(ledgerHead(runDirectory)),
    params: [],
    metrics: metricsAt(numbers, endTime ?? startTime),
    curves: new Map(),
    inputs: [],
    artifacts: [
      { path: 'plan.json', content: open(Buffer.from(JSON.stringify(shownPlan(plan), null, 2))) },
      ...['report.html', 'report.md'].flatMap((name) => {
        const path = join(runDirectory, name);
        return existsSync(path) ? [{ path: name, content: open(readFileSync(path)) }] : [];
      }),
    ],
  };
}

/** A node of which the log says that it started or ended; null for others, skipped ones included. */
export function describeInstance(record: RunRecord, results: RunResults, node: PlanNode): TrackedRun | null {
  const summary = results.nodes.get(node.id);
  if (!summary || summary.status === 'waiting' || summary.status === 'skipped') return null;
  const { plan, run, artifacts } = results;
  const door = doorOf(plan, node);
  const startTime = summary.startedAt ?? summary.endedAt ?? run.startedAt ?? Date.parse(record.startedAt);
  const status = childStatus(summary, run.status);
  // A child whose end was never logged, as after a crash of the worker, ended with the run at the latest.
  const endTime = status === 'RUNNING' ? null : (summary.endedAt ?? run.endedAt ?? startTime);
  const privacy = results.lineage.privacyBehind(node.id);
  const listed = (values: (string | null | undefined)[]): string | null => {
    const known = [...new Set(values.filter((value) => value !== null && value !== undefined))];
    return known.length > 0 ? known.join('; ') : null;
  };
  const failure = summary.failure && door.failure(summary.failure);
  return {
    slug: node.slug,
    name: node.id,
    status,
    startTime,
    endTime,
    tags: tagsOf({
      ...commonTags(record),
      [nodeTag]: node.slug,
      'epsilonflow.level': 'instance',
      'epsilonflow.step': node.step,
      'epsilonflow.kind': node.kind,
      'epsilonflow.label': node.label,
      'epsilonflow.sensitivity': node.sensitivity,
      'epsilonflow.node_key': node.key,
      'epsilonflow.reused': String(summary.reused),
      'epsilonflow.attempt': String(summary.attempt),
      'epsilonflow.waivers': listed(node.waivers),
      'epsilonflow.epsilon': listed(privacy.map((entry) => showEpsilon(entry.privacy.epsilon))),
      'epsilonflow.target_epsilon': listed(privacy.map((entry) => showEpsilon(entry.privacy.targetEpsilon))),
      'epsilonflow.delta': listed(privacy.map((entry) => String(entry.privacy.delta))),
      'epsilonflow.mechanism': listed(privacy.map((entry) => describeMechanism(entry.privacy))),
      'epsilonflow.accountant': listed(privacy.map((entry) => entry.privacy.accountant)),
      'epsilonflow.private_dataset': listed(privacy.map((entry) => accountOf(entry.privacy))),
      'epsilonflow.ledger_entry': listed(
        privacy.flatMap((entry) => [
          ...(results.nodes.get(entry.node.id)?.ledgerEntries ?? []),
          ...(artifacts.get(entry.node.id)?.manifest.charges ?? []).map(({ entryId }) => entryId),
        ]),
      ),
      'epsilonflow.failure': failure && `${failure.code}: ${failure.message}`,
    }),
    params: paramsOf(node),
    metrics: endTime === null ? [] : metricsAt(finalMetrics(results, node, summary), endTime),
    curves: curvesOf(summary, door.curve),
    inputs: inputsOf(results, node),
    artifacts: filesOf(results, node),
  };
}

/** By which a ledger that is older than the run can be told; none when it spent nothing. */
function ledgerHead(runDirectory: string): MlflowTag[] {
  const file = ledgerHeadFile(runDirectory);
  return existsSync(file) ? [tagOfHead(JSON.parse(readFileSync(file, 'utf8')) as KnownHead)] : [];
}

const parentStatus = { running: 'RUNNING', completed: 'FINISHED', failed: 'FAILED', cancelled: 'KILLED' } as const;

function childStatus(summary: NodeSummary, run: RunResults['run']['status']): MlflowRunStatus {
  switch (summary.status) {
    case 'completed':
      return 'FINISHED';
    case 'failed':
      return 'FAILED';
    case 'cancelled':
      return 'KILLED';
    default:
      return run === 'running' ? 'RUNNING' : run === 'failed' ? 'FAILED' : 'KILLED';
  }
}

const commonTags = (record: RunRecord): Record<string, string> => ({
  [runTag]: runIdentity(record),
  'epsilonflow.run_name': `${record.name}/${record.number}`,
  'epsilonflow.workflow': record.workflowId,
  'epsilonflow.plan': record.planDigest,
  'mlflow.source.name': basename(record.specFile),
  'mlflow.source.type': 'LOCAL',
});

const tagsOf = (tags: Record<string, string | null>): MlflowTag[] =>
  Object.entries(tags).flatMap(([key, value]) => (value === null ? [] : [{ key, value }]));

/** Axes under their own names, so that one filters by `params.epsilon = '8'`; a parameter of the same name must agree. */
function paramsOf(node: PlanNode): MlflowTag[] {
  const axes = Object.fromEntries(Object.entries(node.axes).map(([axis, value]) => [cleanKey(axis), String(value)]));
  const params = new Map(Object.entries(axes));
  for (const [key, value] of Object.entries(flattenParams(node.params))) {
    if (!params.has(key)) params.set(key, value);
    else if (params.get(key) !== value) params.set(`${node.step}.${key}`, value);
  }
  return [...params].map(([key, value]) => ({ key, value }));
}

function finalMetrics(results: RunResults, node: PlanNode, summary: NodeSummary): Record<string, number> {
  const comparison = results.comparisons.find((result) => result.node.id === node.id);
  const metrics: Record<string, number> = comparison
    ? Object.fromEntries(
        [...comparison.arms, ...(comparison.ceiling ? [{ arm: 'ceiling', ...comparison.ceiling }] : [])].flatMap(
          (arm) => [
            [`${arm.arm}.mean`, arm.mean],
            [`${arm.arm}.low`, arm.low],
            [`${arm.arm}.high`, arm.high],
            [`${arm.arm}.n`, arm.n],
          ],
        ),
      )
    : { ...doorOf(results.plan, node).metrics(summary.metrics) };
  if (comparison && comparison.majority !== null) metrics['majority'] = comparison.majority;
  if (summary.status === 'completed') metrics['seconds'] = summary.seconds;
  if (node.privacy) metrics['privacy.epsilon'] = node.privacy.epsilon ?? Infinity;
  if (node.release) metrics['privacy.release_epsilon'] = node.release.epsilon ?? Infinity;
  // A final number of a curve's name would be one more point of that curve.
  return Object.fromEntries(
    Object.entries(metrics).map(([name, value]) => [summary.curves.has(name) ? `final.${name}` : name, value]),
  );
}

const metricsAt = (numbers: Record<string, number>, timestamp: number): MlflowMetric[] =>
  Object.entries(numbers).map(([key, value]) => ({ key, value, timestamp, step: 0 }));

function curvesOf(summary: NodeSummary, mayLeave: (name: string) => boolean): TrackedRun['curves'] {
  return new Map(
    [...summary.curves]
      .filter(([name]) => mayLeave(name))
      .map(([name, points]) => [
        name,
        points.map(({ step, value, time }) => ({ key: name, value, timestamp: time, step })),
      ]),
  );
}

type Split = keyof PlanDataset['files'];

/** Splits of a dataset that an input of that role is read for. */
function splitsRead(role: string, { files }: PlanDataset): Split[] {
  if (/^against(\.\d+)?$/.test(role)) {
    return (['train', 'validation', 'test'] as const).filter((split) => files[split] !== undefined);
  }
  if (role === 'real') return files.train === undefined ? ['test'] : ['train', 'test'];
  return [role === 'test' ? 'test' : 'train'];
}

const contexts = { train: 'training', validation: 'validation', test: 'testing' } as const satisfies Record<
  Split,
  string
>;

function datasetInput(dataset: PlanDataset, split: Split): DatasetInput {
  // Where private data lies is nobody's business outside; its digest is keyed already.
  const source = dataset.sensitivity === 'private' ? {} : { uri: dataset.files[split]?.path };
  return {
    // The server counts a dataset once a run, so that splits need names of their own.
    name: `${dataset.name}/${split}`,
    digest: dataset.digest,
    sourceType: 'local',
    source: JSON.stringify(source),
    context: contexts[split],
  };
}

function inputsOf(results: RunResults, node: PlanNode): DatasetInput[] {
  return Object.entries(node.inputs).flatMap(([role, input]): DatasetInput[] => {
    if ('dataset' in input) {
      const dataset = results.plan.datasets[input.dataset];
      return dataset ? splitsRead(role, dataset).map((split) => datasetInput(dataset, split)) : [];
    }
    if ((role !== 'train' && role !== 'synthetic') || !('nodes' in input)) return [];
    return input.nodes.flatMap((id) => {
      const made = results.lineage.node(id);
      if (made?.kind !== 'generate') return [];
      return [
        {
          name: made.id,
          digest: made.key,
          sourceType: 'local',
          source: JSON.stringify({ node: made.id, key: made.key }),
          context: role === 'train' ? 'training' : 'testing',
        },
      ];
    });
  });
}

function filesOf(results: RunResults, node: PlanNode): ArtifactFile[] {
  const artifact = results.artifacts.get(node.id);
  if (!artifact) return [];
  const door = doorOf(results.plan, node);
  const fileOf = (name: string): ArtifactFile[] => {
    const path = join(artifact.directory, name);
    const content = existsSync(path) ? door.content<Uint8Array>(readFileSync(path)) : null;
    return content ? [{ path: name, content }] : [];
  };
  switch (node.kind) {
    case 'compare':
      return fileOf('comparison.json');
    case 'measure':
      return fileOf('measures.json');
    case 'audit':
      return fileOf('audit.json');
    case 'train-classifier':
      return fileOf('metrics.json');
    case 'decontaminate':
      return fileOf('decontamination.json');
    case 'pretrain':
      return fileOf('README.md');
    case 'generate': {
      // Rows are shown only of what may be released, also where the data is a benchmark.
      const sample =
        node.label === 'non-private' ? null : door.content(firstRows(join(artifact.directory, 'synthetic.jsonl')));
      return sample ? [{ path: `sample-first-${sampleRows}-rows.jsonl`, content: sample }] : [];
    }
    default:
      return [];
  }
}

/** The first lines of a file, without reading the rest. */
function firstRows(path: string): Uint8Array {
  if (!existsSync(path)) return new Uint8Array();
  const file = openSync(path, 'r');
  try {
    const head = Buffer.alloc(256 * 1024);
    const text = head.toString('utf8', 0, readSync(file, head, 0, head.length, 0));
    const lines = text.split('\n');
    // The last piece ends in the middle of a row, unless it is empty.
    return Buffer.from(
      lines
        .slice(0, Math.min(sampleRows, lines.length - 1))
        .map((line) => line + '\n')
        .join(''),
    );
  } finally {
    closeSync(file);
  }
}

/** Content made from the plan or by the report, which has passed the door itself. */
const open = (content: Uint8Array): Passed<Uint8Array> => content as Passed<Uint8Array>;
