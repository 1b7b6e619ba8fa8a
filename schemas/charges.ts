/** @file What a node is charged for, and which account pays. Pure. */

import type { NodeCharge, Plan, PlanDataset, PlanNode, Sensitivity, StepKind } from './plan.ts';

/** The charges of a node, each an entry of the ledger of its own: training, then the release of test counts. */
export const chargesOf = ({ privacy, release }: Pick<PlanNode, 'privacy' | 'release'>): NodeCharge[] =>
  [privacy, release].filter((charge) => charge !== undefined);

/** Names of datasets hold no slash, so no dataset's account is another one's test account. */
const testSuffix = '/test';

/** Train and test splits share no record, so each has an account: a record pays for what its own split gives away. */
export const accountOf = ({ dataset, mechanism }: Pick<NodeCharge, 'dataset' | 'mechanism'>): string =>
  mechanism.kind === 'discrete-laplace' ? dataset + testSuffix : dataset;

interface ExactFigures {
  /** What lets them leave where the records are private. */
  waiver: string;
  /** Splits of a dataset that they are of, by the role in which it is given; that of a list stands for all of it. */
  splits: Record<string, readonly (keyof PlanDataset['files'])[]>;
}

/** Kinds that show exact figures of records. */
const exactFigures: Partial<Record<StepKind, ExactFigures>> = {
  'train-classifier': { waiver: 'test-metrics', splits: { test: ['test'] } },
  measure: { waiver: 'measures', splits: { synthetic: ['train'], real: ['train', 'test'] } },
  audit: { waiver: 'measures', splits: { data: ['train', 'test'] } },
  decontaminate: { waiver: 'decontamination', splits: { against: ['train', 'validation', 'test'] } },
};

/** Accounts of the records of one sensitivity that a node shows exact figures of. */
function shownAccounts(
  { kind, inputs }: Pick<PlanNode, 'kind' | 'inputs'>,
  datasets: Plan['datasets'],
  sensitivity: Sensitivity,
): string[] {
  return Object.entries(inputs).flatMap(([role, input]) => {
    const splits = exactFigures[kind]?.splits[role.replace(/\.\d+$/, '')] ?? [];
    const dataset = 'dataset' in input ? datasets[input.dataset] : undefined;
    if (dataset?.sensitivity !== sensitivity) return [];
    const own = splits.filter((split) => dataset.files[split] !== undefined);
    return own.map((split) => (split === 'test' ? dataset.name + testSuffix : dataset.name));
  });
}

/** Accounts of the private records that a node shows exact figures of, and the waiver that lets it. */
export function waivedAccountsOf(
  node: Pick<PlanNode, 'kind' | 'inputs' | 'waivers'>,
  { datasets }: Pick<Plan, 'datasets'>,
): { account: string; waiver: string }[] {
  const waiver = exactFigures[node.kind]?.waiver;
  if (waiver === undefined || !node.waivers.includes(waiver)) return [];
  return [...new Set(shownAccounts(node, datasets, 'private'))].map((account) => ({ account, waiver }));
}

/**
 * Accounts of the records of benchmarks that a plan shows exact figures of: of test splits, and of datasets without a
 * size. Nothing opens them, so the plan has none of them; their records are registered.
 */
export function shownBenchmarksOf({ nodes, datasets }: Pick<Plan, 'nodes' | 'datasets'>): string[] {
  const shown = nodes.flatMap((node) => shownAccounts(node, datasets, 'benchmark'));
  const isUnopened = (account: string): boolean => account.endsWith(testSuffix) || datasets[account]!.privacy === null;
  return [...new Set(shown)].filter(isUnopened).sort();
}

/** The split that an account stands for, and the dataset's name. */
export const splitOfAccount = (account: string): { dataset: string; split: 'train' | 'test' } =>
  account.endsWith(testSuffix)
    ? { dataset: account.slice(0, -testSuffix.length), split: 'test' }
    : { dataset: account, split: 'train' };

/** Names one charge wherever it turns up: in a plan, a receipt, a ledger entry. */
export const chargeName = ({ nodeKey, mechanismDigest }: { nodeKey: string; mechanismDigest: string }): string =>
  `${nodeKey}/${mechanismDigest}`;

export const chargeNameOf = (node: Pick<PlanNode, 'key'>, { digest }: Pick<NodeCharge, 'digest'>): string =>
  chargeName({ nodeKey: node.key, mechanismDigest: digest });
