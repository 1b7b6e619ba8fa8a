/** @file Which nodes of a plan stand behind a node, and what privacy loss they carry. Pure. */

import type { NodePrivacy, Plan, PlanNode } from '../schemas/plan.ts';

export interface Lineage {
  node(id: string): PlanNode | undefined;
  /** A node and all that its inputs derive from, in plan order. Order without data (`needs`) does not count. */
  behind(id: string): PlanNode[];
  /** The mechanisms whose outputs went into a node, its own included, in plan order. */
  privacyBehind(id: string): { node: PlanNode; privacy: NodePrivacy }[];
}

export function lineageOf(plan: Pick<Plan, 'nodes'>): Lineage {
  const nodes = new Map(plan.nodes.map((node) => [node.id, node]));
  const order = new Map(plan.nodes.map((node, index) => [node.id, index]));

  const behind = (id: string): PlanNode[] => {
    const found = new Set<string>();
    const pending = [id];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const node = nodes.get(next);
      if (!node || found.has(next)) continue;
      found.add(next);
      for (const input of Object.values(node.inputs)) if ('nodes' in input) pending.push(...input.nodes);
    }
    return [...found].sort((a, b) => order.get(a)! - order.get(b)!).map((key) => nodes.get(key)!);
  };

  return {
    node: (id) => nodes.get(id),
    behind,
    privacyBehind: (id) => behind(id).flatMap((node) => (node.privacy ? [{ node, privacy: node.privacy }] : [])),
  };
}

/** `3`, `8`, `∞`: an epsilon as people write it, rounded up to three digits: it never promises more than is kept. */
export const showEpsilon = (epsilon: number | 'inf' | null): string =>
  epsilon === null || epsilon === 'inf' ? '∞' : String(Math.ceil(epsilon * 1000 - 1e-6) / 1000);

/** One line that names a mechanism and its parameters. */
export function describeMechanism({ mechanism }: NodePrivacy): string {
  if (mechanism.kind === 'unbounded') return 'none (training without DP)';
  const { samplingProbability, noiseMultiplier, steps, clipNorm } = mechanism;
  return (
    `Poisson-subsampled Gaussian: sampling probability ${short(samplingProbability)}, noise multiplier ` +
    `${short(noiseMultiplier)}, ${steps} steps, clip norm ${short(clipNorm)}`
  );
}

const short = (value: number): string => String(Number(value.toPrecision(6)));
