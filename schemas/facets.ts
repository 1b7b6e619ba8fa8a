/** @file What nodes of a plan are found by: data and epsilons behind them. Names and figures of the spec alone. Pure. */

import type { Plan, PlanNode } from './plan.ts';

export interface Facets {
  datasets: readonly string[];
  /** Target epsilons of the training behind it, `inf` for training without DP. */
  epsilons: readonly string[];
}

const known = new WeakMap<Plan['nodes'], ReadonlyMap<string, Facets>>();

/** By node id; made once a plan. */
export function facetsOf({ nodes }: Pick<Plan, 'nodes'>): ReadonlyMap<string, Facets> {
  let facets = known.get(nodes);
  if (!facets) known.set(nodes, (facets = makeFacets(nodes)));
  return facets;
}

function makeFacets(nodes: Plan['nodes']): Map<string, Facets> {
  const facets = new Map<string, Facets>();
  for (const node of nodes) {
    const inputs = Object.values(node.inputs);
    const behind = inputs.flatMap((input) => ('nodes' in input ? input.nodes.map((id) => facets.get(id)!) : []));
    facets.set(node.id, togetherOf([ownFacets(node), ...behind]));
  }
  return facets;
}

const ownFacets = ({ inputs, privacy }: PlanNode): Facets => ({
  datasets: Object.values(inputs).flatMap((input) => ('dataset' in input ? [input.dataset] : [])),
  epsilons: privacy ? [String(privacy.targetEpsilon)] : [],
});

export const togetherOf = (all: Iterable<Facets>): Facets => {
  const datasets = new Set<string>();
  const epsilons = new Set<string>();
  for (const facets of all) {
    for (const dataset of facets.datasets) datasets.add(dataset);
    for (const epsilon of facets.epsilons) epsilons.add(epsilon);
  }
  return { datasets: [...datasets], epsilons: [...epsilons] };
};
