/**
 * @file What the limits of a run let start. What is given to a child to be done after something else takes over the
 * place of that, so that a place is never held by what cannot run yet. Pure.
 */

import type { PlannedNode, RunLimits } from '../activities/contract.ts';
import type { Schedule } from './scheduler.ts';
import { resourceOf } from './steps.ts';

type Nodes = ReadonlyMap<string, PlannedNode>;

/** Free places by what steps run on; what is not in it has no bound. */
const placesOf = ({ atATime = {} }: Pick<RunLimits, 'atATime'>): Map<string, number> =>
  new Map(Object.entries(atATime));

export class Places {
  private readonly free: Map<string, number>;
  private readonly schedule: Schedule;
  private readonly nodes: Nodes;
  /** Nodes whose places another takes over when they end. */
  private readonly passedOn = new Set<string>();

  constructor(limits: Pick<RunLimits, 'atATime'>, schedule: Schedule, nodes: Nodes) {
    this.free = placesOf(limits);
    this.schedule = schedule;
    this.nodes = nodes;
    if (this.free.size === 0) return;
    for (const [id, state] of schedule.states) if (state === 'running') this.occupy(id);
  }

  /**
   * Gives a node a place, if there is one for it.
   *
   * @param before the node that it would be done after, of those that were taken with it; null when it is ready
   */
  take(id: string, before: string | null): boolean {
    const resource = this.boundOf(id);
    if (resource === null) return true;
    if (before !== null) return this.follow(id, resource, before);
    const free = this.free.get(resource)!;
    if (free <= 0) return false;
    this.free.set(resource, free - 1);
    return true;
  }

  private occupy(id: string): void {
    const resource = this.boundOf(id);
    if (resource === null) return;
    const before = this.nodes.get(id)!.needs.find((need) => this.schedule.states.get(need) === 'running');
    if (before !== undefined && this.follow(id, resource, before)) return;
    this.free.set(resource, this.free.get(resource)! - 1);
  }

  /** It starts as soon as the other ends, and waits for nothing else. */
  private follow(id: string, resource: string, before: string): boolean {
    const waitsForIt = this.schedule.missing.get(id) === 1 && this.boundOf(before) === resource;
    if (!waitsForIt || this.passedOn.has(before)) return false;
    this.passedOn.add(before);
    return true;
  }

  private boundOf(id: string): string | null {
    const resource = resourceOf(this.nodes.get(id)!);
    return resource !== null && this.free.has(resource) ? resource : null;
  }
}

/**
 * Those of the nodes, each after what it needs of them, that have a place of their own: in runs that were started before
 * one could take over another's.
 */
export function withOwnPlaces(
  ids: readonly string[],
  limits: Pick<RunLimits, 'atATime'>,
  schedule: Schedule,
  nodes: Nodes,
): readonly string[] {
  const free = placesOf(limits);
  if (free.size === 0) return ids;
  for (const [id, state] of schedule.states) {
    const resource = state === 'running' ? resourceOf(nodes.get(id)!) : null;
    if (resource !== null && free.has(resource)) free.set(resource, free.get(resource)! - 1);
  }
  const left = new Set<string>();
  return ids.filter((id) => {
    const { needs, ...node } = nodes.get(id)!;
    const resource = resourceOf(node);
    const most = resource === null ? undefined : free.get(resource);
    const fits = (most === undefined || most > 0) && !needs.some((need) => left.has(need));
    if (!fits) left.add(id);
    else if (most !== undefined) free.set(resource!, most - 1);
    return fits;
  });
}
