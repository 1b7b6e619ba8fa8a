/** @file The papers of a released folder: data card, privacy statement, and how to use it in a spec. Pure. */

import { stringify } from 'yaml';
import type { AccountSummary, LedgerLoss, LedgerWaiver } from '../../privacy/ledger/index.ts';
import type { FinetuneParams, GenerateParams } from '../../schemas/step-params.ts';
import type { Plan, PlanNode } from '../../schemas/plan.ts';
import { describeLoss, describeWaiver, showEpsilon } from '../wording.ts';
import type { Block } from '../report/document.ts';
import { renderMarkdown } from '../report/markdown.ts';
import { statementBlocks } from '../report/statement-blocks.ts';
import { guarantee, type PrivacyStatement } from '../statement.ts';

/** What the whole account of a dataset has spent, everything that ever drew on it included. */
export interface AccountStatement {
  dataset: string;
  /** Null: unbounded, training without DP is among it. */
  epsilon: number | null;
  delta: number;
  budget: number | null;
  /** Entries of training without DP. */
  unbounded: number;
  experiments: number;
  /** Exact figures of its records that may have left, and are not in the figure. */
  waivers: Pick<LedgerWaiver, 'waiver' | 'reason' | 'row'>[];
  /** Spending that was lost with an earlier ledger or copy, and is not in the figure. */
  losses: LedgerLoss[];
}

export const accountStatement = (summary: AccountSummary): AccountStatement => ({
  dataset: summary.account,
  epsilon: summary.total,
  delta: summary.delta,
  budget: summary.budget,
  unbounded: summary.unbounded,
  experiments: summary.experiments.length,
  waivers: summary.waivers.map(({ waiver, reason, row }) => ({ waiver, reason, row })),
  losses: summary.losses,
});

export interface CardFacts {
  plan: Plan;
  node: PlanNode;
  /** `NAME/NUMBER`. */
  run: string;
  statement: PrivacyStatement;
  accounts: AccountStatement[];
}

export interface SyntheticFacts {
  rows: number;
  /** Rows by label, in the order of the classes; empty without labels. */
  labels: readonly (readonly [label: string, rows: number])[];
}

/**
 * @param names labels in the order of the classes; empty without labels
 * @param labels that of each row
 */
export function syntheticFacts(names: readonly string[], labels: readonly (string | undefined)[]): SyntheticFacts {
  const rows = new Map(names.map((name) => [name, 0]));
  for (const label of labels) {
    if (label !== undefined && rows.has(label)) rows.set(label, rows.get(label)! + 1);
  }
  return { rows: labels.length, labels: [...rows] };
}

function methodText(method: FinetuneParams['method']): string {
  switch (method.kind) {
    case 'lora':
      return `LoRA of rank ${method.rank}`;
    case 'prompt':
      return `a prompt of ${method.length} positions`;
    case 'full':
      return 'all weights';
  }
}

function samplingText({ temperature, topK, topP, repetitionPenalty, banned }: GenerateParams): string {
  const rules = [
    `temperature ${temperature}`,
    ...(topK === undefined ? [] : [`top-k ${topK}`]),
    ...(topP < 1 ? [`top-p ${topP}`] : []),
    ...(repetitionPenalty === 1 ? [] : [`repetition penalty ${repetitionPenalty}`]),
    ...(banned.length === 0 ? [] : [`${banned.length} banned tokens`]),
  ];
  return rules.join(', ');
}

export function statementMarkdown({
  statement,
  accounts,
  run,
}: Pick<CardFacts, 'statement' | 'accounts' | 'run'>): string {
  return renderMarkdown({
    title: `Privacy statement: ${statement.subject}`,
    facts: [
      ['run', run],
      ['plan', statement.planDigest],
    ],
    sections: [
      { id: 'guarantee', title: 'Guarantee', blocks: statementBlocks(statement) },
      { id: 'account', title: 'The whole account', blocks: accounts.map(accountBlock) },
    ].filter(({ blocks }) => blocks.length > 0),
  });
}

function accountBlock(account: AccountStatement): Block {
  const { dataset, epsilon, delta, budget, unbounded, experiments, waivers, losses } = account;
  const spent =
    epsilon === null
      ? `is unbounded: ${unbounded} of its entries trained without DP`
      : `is ε = ${showEpsilon(epsilon)} at δ = ${delta.toExponential(1)}`;
  return {
    kind: 'paragraph',
    text:
      `All spending on ${dataset} in this ledger when this was written, ${experiments} ` +
      `experiment${experiments === 1 ? '' : 's'} together, ${spent}. ` +
      (budget === null
        ? 'The account has no budget: it is recorded only.'
        : `Its budget is ε = ${showEpsilon(budget)}.`) +
      waivers.map((waiver) => ` ${describeWaiver(waiver)}`).join('') +
      losses.map((loss) => ` ${describeLoss(loss)}`).join(''),
  };
}

/** Once each: all accounts of a ledger tell of the same losses. */
const lossesOf = ({ accounts }: CardFacts): string[] => [
  ...new Set(accounts.flatMap(({ losses }) => losses.map(describeLoss))),
];

/** A data card with the front matter that Hugging Face's loaders read. */
export function dataCard(facts: CardFacts, synthetic: SyntheticFacts): string {
  const { plan, node, run, statement } = facts;
  const frontMatter = {
    configs: [{ config_name: 'default', data_files: [{ split: 'train', path: 'synthetic.parquet' }] }],
    ...(synthetic.labels.length > 0 ? { task_categories: ['text-classification'] } : {}),
    tags: ['synthetic', ...(node.label === 'dp' ? ['differential-privacy'] : []), 'epsilonflow'],
  };
  const generate = node.params as GenerateParams;
  const generator = generatorOf(plan, node);
  const finetune = generator?.kind === 'finetune' ? (generator.params as FinetuneParams) : null;
  const document = renderMarkdown({
    title: `Synthetic text: ${node.id}`,
    facts: [
      ['run', run],
      ['rows', String(synthetic.rows)],
      ['label', node.label],
    ],
    sections: [
      {
        id: 'what',
        title: 'What this is',
        blocks: [
          {
            kind: 'paragraph',
            text:
              'Text written by a language model, not by people. ' +
              (statement.datasets.length > 0
                ? `The model was fine-tuned on ${statement.datasets.map(({ dataset }) => dataset).join(', ')} with differential privacy; no row of it is here by intent, though a model may repeat common phrases.`
                : 'The model saw public data only.'),
          },
          ...(synthetic.labels.length > 0
            ? [
                {
                  kind: 'table',
                  caption: 'Rows by label',
                  columns: [
                    { title: 'label', align: 'left' },
                    { title: 'rows', align: 'right' },
                  ],
                  rows: synthetic.labels.map(([label, rows]) => [label, String(rows)]),
                } satisfies Block,
              ]
            : []),
        ],
      },
      {
        id: 'privacy',
        title: 'Privacy',
        blocks: [
          ...(statement.datasets.length > 0
            ? statement.datasets.map((dataset): Block => ({ kind: 'paragraph', text: guarantee(dataset) }))
            : [{ kind: 'paragraph', text: 'Nothing here derives from data that is not public.' } satisfies Block]),
          ...lossesOf(facts).map((text): Block => ({ kind: 'paragraph', text })),
          { kind: 'paragraph', text: 'The whole statement, with what it does not cover, is in privacy-statement.md.' },
        ],
      },
      {
        id: 'how',
        title: 'How it was made',
        blocks: [
          {
            kind: 'list',
            items: [
              ...(finetune
                ? [
                    `Fine-tuning: ${methodText(finetune.method)}, ${finetune.steps} steps, expected batch ${finetune.batch}, clip norm ${finetune.clip}, conditioning ${finetune.conditioning}, seed ${finetune.seed}`,
                  ]
                : []),
              `Sampling: ${samplingText(generate)}, labels drawn uniformly, seed ${generate.seed}`,
              ...statement.models.map(({ name, digest }) => `Base model: ${name}, digest ${digest}`),
              `Plan ${plan.digest}, content key ${node.key}`,
            ],
          },
        ],
      },
      {
        id: 'use',
        title: 'Use',
        blocks: [
          {
            kind: 'paragraph',
            text:
              'As training data in place of the original, at no further privacy cost: whatever is computed from it is covered by the statement. ' +
              'It is not for learning facts: what it says is not true of anyone. Quality was measured by classifiers only; see the report of the run.',
          },
          { kind: 'paragraph', text: 'In a spec of Epsilonflow (also in dataset.yaml):' },
          { kind: 'code', text: datasetSnippet(facts, synthetic).trimEnd() },
          { kind: 'paragraph', text: 'In Python:' },
          {
            kind: 'code',
            text: "from datasets import load_dataset\nrows = load_dataset('PATH/OF/THIS/FOLDER', split='train')",
          },
          { kind: 'paragraph', text: 'To check the files: sha256sum -c SHA256SUMS' },
          {
            kind: 'paragraph',
            text: 'To recompute every epsilon from the evidence that lies here: epsilonflow verify PATH/OF/THIS/FOLDER',
          },
        ],
      },
    ],
  });
  return `---\n${stringify(frontMatter)}---\n\n${document}`;
}

/** The folder as a public dataset of a spec; paths are relative to the spec's folder, here the released one. */
export function datasetSnippet({ statement }: CardFacts, { labels }: SyntheticFacts): string {
  const name = `${statement.datasets[0]?.dataset ?? 'generated'}-synthetic`;
  const values = labels.map(([label]) => label);
  return stringify({
    datasets: {
      [name]: {
        files: { train: 'synthetic.jsonl' },
        text: 'text',
        ...(values.length > 0 ? { label: { column: 'label', values } } : {}),
        sensitivity: 'public',
      },
    },
  });
}

/** Card of an adapter that is released by itself. */
export function adapterCard({ node, run, statement }: CardFacts): string {
  return renderMarkdown({
    title: `Adapter: ${node.id}`,
    facts: [
      ['run', run],
      ['label', node.label],
    ],
    sections: [
      {
        id: 'what',
        title: 'What this is',
        blocks: [
          {
            kind: 'paragraph',
            text: `A PEFT adapter${statement.models.length > 0 ? ` for the base model ${statement.models.map(({ name, digest }) => `${name} (digest ${digest})`).join(', ')}` : ''}.`,
          },
          ...statement.datasets.map((dataset): Block => ({ kind: 'paragraph', text: guarantee(dataset) })),
        ],
      },
    ],
  });
}

const generatorOf = (plan: Plan, node: PlanNode): PlanNode | undefined => {
  const input = node.inputs['generator'];
  return input && 'nodes' in input ? plan.nodes.find(({ id }) => id === input.nodes[0]) : undefined;
};
