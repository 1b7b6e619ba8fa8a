/** @file What a node is charged for, and which account pays. Pure. */

import type { NodeCharge, Plan, PlanNode } from './plan.ts';

/** The charges of a node, each an entry of the ledger of its own: training, then the release of test counts. */
export const chargesOf = ({ privacy, release }: Pick<PlanNode, 'privacy' | 'release'>): NodeCharge[] =>
  [privacy, release].filter((charge) => charge !== undefined);

/** Names of datasets hold no slash, so no dataset's account is another one's test account. */
const testSuffix = '/test';

/** Train and test splits share no record, so each has an account: a record pays for what its own split gives away. */
export const accountOf = ({ dataset, mechanism }: Pick<NodeCharge, 'dataset' | 'mechanism'>): string =>
  mechanism.kind === 'discrete-laplace' ? dataset + testSuffix : dataset;

/** The account of the test records that a node shows exact figures of, under a waiver; null when there is none. */
export function waivedAccountOf({ inputs: { test }, waivers }: Pick<PlanNode, 'inputs' | 'waivers'>): string | null {
  return waivers.includes('test-metrics') && test !== undefined && 'dataset' in test ? test.dataset + testSuffix : null;
}

/** Accounts of the test records of benchmarks that a plan shows exact figures of. Nothing opens them; their records are registered. */
export function benchmarkTestsOf({ nodes, datasets }: Pick<Plan, 'nodes' | 'datasets'>): string[] {
  const tests = nodes.flatMap(({ inputs: { test } }) =>
    test !== undefined && 'dataset' in test && datasets[test.dataset]!.sensitivity === 'benchmark'
      ? [test.dataset]
      : [],
  );
  return [...new Set(tests)].map((name) => name + testSuffix).sort();
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
