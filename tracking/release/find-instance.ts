/** @file Finds a plan's node by what a person types. Pure. */

import { distance } from 'fastest-levenshtein';
import { EpsilonflowError } from '../../schemas/errors.ts';
import type { Plan, PlanNode } from '../../schemas/plan.ts';

/**
 * The node of an id or slug, or the only one that fits a step and some of its axes: `synthetic[epsilon=8]`.
 *
 * @throws EpsilonflowError INSTANCE_UNKNOWN with the nearest ids when none or several fit.
 */
export function findInstance(plan: Pick<Plan, 'nodes' | 'name'>, instance: string): PlanNode {
  const exact = plan.nodes.find(({ id, slug }) => id === instance || slug === instance);
  if (exact) return exact;
  const fitting = instancesNamed(plan, instance);
  if (fitting.length === 1) return fitting[0]!;
  if (fitting.length > 1) {
    throw new EpsilonflowError('INSTANCE_UNKNOWN', `${instance} names ${fitting.length} instances of ${plan.name}.`, {
      hint: `Name one: ${listed(fitting)}.`,
    });
  }
  const nearest = [...plan.nodes].sort((a, b) => distance(instance, a.id) - distance(instance, b.id)).slice(0, 3);
  throw new EpsilonflowError('INSTANCE_UNKNOWN', `${plan.name} has no instance ${instance}.`, {
    hint: nearest.length > 0 ? `Did you mean ${listed(nearest)}?` : 'The plan is empty.',
  });
}

/** The nodes of an id or slug, or all that fit a step and some of its axes. */
export function instancesNamed(plan: Pick<Plan, 'nodes'>, instance: string): PlanNode[] {
  return plan.nodes.filter((node) => node.id === instance || node.slug === instance || fits(node, instance));
}

function fits(node: PlanNode, instance: string): boolean {
  const [, step, axes = ''] = /^([^[\]]+)(?:\[([^[\]]*)\])?$/.exec(instance.trim()) ?? [];
  if (node.step !== step) return false;
  return axes
    .split(',')
    .filter(Boolean)
    .every((part) => {
      const [axis = '', value = ''] = part.split('=').map((piece) => piece.trim());
      return String(node.axes[axis]) === value;
    });
}

const listed = (nodes: readonly PlanNode[]): string =>
  nodes
    .slice(0, 6)
    .map(({ id }) => id)
    .join(', ') + (nodes.length > 6 ? ', ...' : '');
