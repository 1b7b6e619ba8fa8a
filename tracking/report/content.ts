/** @file What a report says, section by section, made from the results of a run. */

import { describeApproval } from '../../schemas/approvals.ts';
import { readFileSync, existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import type { LedgerLoss } from '../../privacy/ledger/index.ts';
import { chargesOf } from '../../schemas/charges.ts';
import type { JsonValue } from '../../schemas/plan.ts';
import { doorOf } from '../door.ts';
import { describeLoss, duration, showEpsilon } from '../wording.ts';
import type { RunResults } from '../results.ts';
import type { RunRecord } from '../runs.ts';
import { privacyStatement, type PrivacyStatement } from '../statement.ts';
import { columns, type Block, type ReportDocument, type Section, type Text } from './document.ts';
import { auditSection } from './audits.ts';
import { measuredNote, measureSection } from './measures.ts';
import { overlapSection } from './overlap.ts';
import { plotAccuracy } from './plot.ts';
import { statementBlocks } from './statement-blocks.ts';
import { answer, question, resultBlocks } from './summary.ts';
import { digits, epsilonOf, groupComparisons, metricName, type ComparisonGroup } from './table.ts';

/** Rows of a synthetic set that are shown: the first ones, not a choice. */
const sampleRows = 5;

/** @param losses spending that no figure of the ledger holds */
export async function reportDocument(
  record: RunRecord,
  results: RunResults,
  losses: readonly LedgerLoss[],
): Promise<ReportDocument> {
  const { run, plan } = results;
  const reused = [...results.nodes.values()].filter((node) => node.reused).length;
  return {
    title: `${record.name}/${record.number}`,
    facts: [
      ['started', utc(Date.parse(record.startedAt))],
      ['status', run.status],
      ...(run.startedAt !== null && run.endedAt !== null
        ? ([['duration', duration((run.endedAt - run.startedAt) / 1000)]] as [string, string][])
        : []),
      ['instances', `${plan.nodes.length}, of which ${reused} reused`],
      ['plan', plan.digest.slice(0, 12)],
    ],
    sections: [
      { id: 'answer', title: 'Question and answer', blocks: answerBlocks(results) },
      ...(await resultSection(results)),
      ...measureSection(results),
      ...auditSection(results),
      ...overlapSection(results),
      { id: 'privacy', title: 'Privacy statement', blocks: privacyBlocks(results, losses) },
      ...failureSection(results),
      ...approvalSection(results),
      ...sampleSection(results),
      { id: 'cost', title: 'Cost', blocks: costBlocks(results) },
      { id: 'reproduce', title: 'How to reproduce', blocks: reproduceBlocks(record, results) },
    ],
  };
}

const answerBlocks = (results: RunResults): Block[] => [
  { kind: 'paragraph', text: [{ strong: question(results) }] },
  { kind: 'paragraph', text: answer(results) },
];

async function resultSection(results: RunResults): Promise<Section[]> {
  const groups = groupComparisons(results.comparisons);
  if (groups.length === 0) return metricSection(results);
  const figures: Block[] = [];
  for (const group of groups) {
    if (group.rows.some((row) => epsilonOf(row) === null)) continue;
    figures.push(await figureOf(group));
  }
  return [
    { id: 'results', title: `${metricName(groups[0]!.metric)} by arm`, blocks: [...figures, ...resultBlocks(results)] },
  ];
}

async function figureOf(group: ComparisonGroup): Promise<Block> {
  const metric = metricName(group.metric);
  const points = group.rows.flatMap((row) =>
    row.arms.map(({ arm, mean, low, high }) => ({ epsilon: epsilonOf(row)!, arm, mean, low, high })),
  );
  // They are the same on every row: neither depends on epsilon.
  const { majority, ceiling } = group.rows[0]!;
  const svg = await plotAccuracy({
    epsilons: group.rows.map((row) => epsilonOf(row)!),
    arms: group.arms,
    metric: metric.toLowerCase(),
    points,
    lines: [
      ...(majority === null ? [] : [{ name: 'majority class', value: majority }]),
      ...(ceiling === null ? [] : [{ name: 'ceiling', value: ceiling.mean }]),
    ],
  });
  const said = points.map(
    ({ epsilon, arm, mean, low, high }) =>
      `${arm} at epsilon ${epsilon}: ${digits(mean)}, interval ${digits(low)} to ${digits(high)}`,
  );
  return {
    kind: 'figure',
    svg,
    caption: `${metric} against ε on ${group.name}, by arm. Bars are 95 % intervals; the table says what they cover.`,
    description: `${metric} against epsilon for ${group.name}. ${said.join('; ')}.`,
  };
}

/** Without comparisons the figures of the instances are the result. */
function metricSection(results: RunResults): Section[] {
  const rows = results.plan.nodes.flatMap((node): Text[][] => {
    const summary = results.nodes.get(node.id);
    // Measures and audits have sections of their own.
    if (summary?.status !== 'completed' || node.kind === 'measure' || node.kind === 'audit') return [];
    const metrics = doorOf(results.plan, node).metrics(summary.metrics);
    return Object.entries(metrics).map(([name, value]) => [
      [{ code: node.id }],
      name,
      Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(5))),
    ]);
  });
  if (rows.length === 0) return [];
  return [
    {
      id: 'results',
      title: 'Figures of the instances',
      blocks: [
        {
          kind: 'table',
          caption: 'Each figure is of one instance (n = 1); nothing here says how much another seed would differ.',
          columns: columns('instance', 'figure', 'value:right'),
          rows,
        },
      ],
    },
  ];
}

function privacyBlocks(results: RunResults, losses: readonly LedgerLoss[]): Block[] {
  const statement = privacyStatement(
    results.plan,
    null,
    (node, charge) =>
      results.artifacts.get(node.id)?.manifest.charges?.find(({ mechanismDigest }) => mechanismDigest === charge.digest)
        ?.entryId ??
      results.nodes.get(node.id)?.ledgerEntries[chargesOf(node).indexOf(charge)] ??
      null,
  );
  const lost = losses.map((loss): Block => ({ kind: 'paragraph', text: describeLoss(loss) }));
  return [...statementBlocks(statement), ...wholeRunNote(statement), ...measuredNote(results.plan), ...lost];
}

const wholeRunNote = (statement: PrivacyStatement): Block[] =>
  statement.datasets.some(({ wholeRunEpsilon, mechanisms }) => wholeRunEpsilon === null && mechanisms.length > 0)
    ? [
        {
          kind: 'paragraph',
          text:
            'The run as a whole trains without DP too, so no epsilon bounds all of it together. A result below ε = ∞ ' +
            'keeps the figure of its own mechanism in the table. ' +
            statement.datasets
              .filter(({ mechanisms }) => mechanisms.length > 0)
              .map(
                ({ account, chargedEpsilon }) =>
                  `All bounded mechanisms on ${account} together: ε = ${showEpsilon(chargedEpsilon)}.`,
              )
              .join(' '),
        },
      ]
    : [];

function approvalSection({ run }: RunResults): Section[] {
  if (run.approvals.length === 0) return [];
  const rows = run.approvals.map(({ author, reason, time, ...awaited }): Text[] => [
    utc(time),
    author,
    describeApproval(awaited),
    reason,
  ]);
  const caption = 'What a person let go on';
  const table: Block = { kind: 'table', caption, columns: columns('when', 'who', 'what', 'why'), rows };
  return [{ id: 'approvals', title: 'Approvals', blocks: [table] }];
}

function failureSection(results: RunResults): Section[] {
  const rows = results.plan.nodes.flatMap((node): Text[][] => {
    const summary = results.nodes.get(node.id);
    if (!summary) return results.run.status === 'running' ? [] : [[[{ code: node.id }], 'not started', '']];
    if (summary.status === 'completed' || summary.status === 'running' || summary.status === 'waiting') return [];
    const failure = summary.failure && doorOf(results.plan, node).failure(summary.failure);
    return [[[{ code: node.id }], summary.status, failure ? `${failure.code}: ${failure.message}` : '']];
  });
  if (rows.length === 0) return [];
  const caption = 'Instances without a result';
  return [
    {
      id: 'failures',
      title: 'What failed',
      blocks: [{ kind: 'table', caption, columns: columns('instance', 'status', 'why'), rows }],
    },
  ];
}

/** Of sets that differ in their seed only, the first is shown. */
function sampleSection(results: RunResults): Section[] {
  const shown = new Set<string>();
  const blocks = results.plan.nodes.flatMap((node): Block[] => {
    const artifact = results.artifacts.get(node.id);
    const { seed: _seed, ...axes } = node.axes;
    const group = JSON.stringify([node.step, axes]);
    if (shown.has(group)) return [];
    if (node.kind !== 'generate' || node.label === 'non-private' || !artifact) return [];
    const rows = doorOf(results.plan, node).content(firstRecords(join(artifact.directory, 'synthetic.jsonl')));
    if (!rows || rows.length === 0) return [];
    shown.add(group);
    return [
      {
        kind: 'table',
        caption: `${node.id}: its first ${rows.length} rows, not chosen`,
        columns: columns('label', 'text'),
        rows,
      },
    ];
  });
  return blocks.length > 0 ? [{ id: 'samples', title: 'Synthetic text', blocks }] : [];
}

function firstRecords(path: string): string[][] {
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n', sampleRows)
    .filter(Boolean)
    .map((line) => {
      const record = JSON.parse(line) as Record<string, JsonValue>;
      return [String(record['label'] ?? ''), String(record['text'] ?? '')];
    });
}

function costBlocks(results: RunResults): Block[] {
  const bySteps = new Map<string, { kind: string; ran: number; reused: number; seconds: number; longest: number }>();
  for (const node of results.plan.nodes) {
    const summary = results.nodes.get(node.id);
    const cost = bySteps.get(node.step) ?? { kind: node.kind, ran: 0, reused: 0, seconds: 0, longest: 0 };
    bySteps.set(node.step, cost);
    if (summary?.status !== 'completed') continue;
    if (summary.reused) cost.reused += 1;
    else {
      cost.ran += 1;
      cost.seconds += summary.seconds;
      cost.longest = Math.max(cost.longest, summary.seconds);
    }
  }
  const rows = [...bySteps].map(([step, { kind, ran, reused, seconds, longest }]): Text[] => [
    step,
    kind,
    String(ran),
    String(reused),
    ran === 0 ? '–' : duration(seconds),
    ran === 0 ? '–' : duration(longest),
  ]);
  const total = [...bySteps.values()].reduce((sum, { seconds }) => sum + seconds, 0);
  return [
    {
      kind: 'paragraph',
      text: `${duration(total)} of work in this run, summed over instances that ran; a reused result was in the store already and cost nothing, no epsilon either.`,
    },
    {
      kind: 'table',
      caption: 'By step',
      columns: columns('step', 'kind', 'ran:right', 'reused:right', 'in all:right', 'longest:right'),
      rows,
    },
  ];
}

function reproduceBlocks(record: RunRecord, results: RunResults): Block[] {
  const { plan } = results;
  const spec = relative(process.cwd(), record.specFile);
  const file = spec.startsWith('..') ? record.specFile : spec;
  return [
    {
      kind: 'code',
      text: `epsilonflow run ${/\s/.test(file) ? `'${file}'` : file}${plan.spec.profile ? ` --profile ${plan.spec.profile}` : ''}`,
    },
    {
      kind: 'paragraph',
      text: [
        'At this place on disk the same spec over the same data gives the plan ',
        { code: plan.digest },
        '. What lies in the store already is reused; private results are reused at no further cost as long as their ledger entry is there.',
      ],
    },
    {
      kind: 'table',
      caption: 'Data and models',
      columns: columns('name', 'role', 'digest'),
      rows: [
        ...Object.values(plan.datasets).map(({ name, sensitivity, digest }): Text[] => [
          name,
          `dataset, ${sensitivity}`,
          [{ code: digest.slice(0, 16) }],
        ]),
        ...Object.values(plan.models).map(({ name, digest }): Text[] => [
          name,
          'model',
          [{ code: digest.slice(0, 16) }],
        ]),
      ],
    },
  ];
}

const utc = (time: number): string => new Date(time).toISOString().slice(0, 16).replace('T', ' ') + ' UTC';
