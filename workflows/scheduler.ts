/**
 * @file Ready-set scheduler: which nodes may start now. Pure and deterministic: the order of starts depends only on
 * plan order and on the order of events. `advance` costs the out-degree of the node; the schedule that it is given
 * is spent, only the returned one may be used.
 */

export interface SchedulableNode {
  id: string;
  key: string;
  /** Ids of nodes that must end well first; each must come earlier in the plan. */
  needs: readonly string[];
}

export type NodeState = 'waiting' | 'ready' | 'running' | 'completed' | 'failed' | 'cancelled' | 'skipped';

export type ScheduleEvent =
  | { type: 'started'; id: string }
  /** Waits no more here: who runs what it still needs runs it afterwards. */
  | { type: 'joined'; id: string }
  | { type: 'completed'; id: string }
  | { type: 'failed'; id: string }
  | { type: 'cancelled'; id: string }
  /** Who it was given to has not started it. */
  | { type: 'dropped'; id: string; because: string }
  /** Nothing more may start: what has not started is skipped. */
  | { type: 'halted'; because: string };

export interface Schedule {
  readonly states: Map<string, NodeState>;
  readonly counts: Record<NodeState, number>;
  /** In plan order of becoming ready. */
  readonly ready: Set<string>;
  readonly missing: Map<string, number>;
  readonly dependents: Map<string, string[]>;
  /** Nodes with the content key of an earlier node, which they wait for: `id -> earlier id`. */
  readonly twins: Map<string, string>;
}

export interface Skipped {
  node: string;
  because: string;
}

/** @throws RangeError when a need is unknown, comes later in the plan, or an id is there twice. */
export function createSchedule(nodes: readonly SchedulableNode[]): Schedule {
  const schedule: Schedule = {
    states: new Map(),
    counts: { waiting: 0, ready: 0, running: 0, completed: 0, failed: 0, cancelled: 0, skipped: 0 },
    ready: new Set(),
    missing: new Map(),
    dependents: new Map(),
    twins: new Map(),
  };
  const firstWithKey = new Map<string, string>();
  for (const node of nodes) {
    if (schedule.states.has(node.id)) throw new RangeError(`The plan holds ${node.id} twice`);
    const twin = firstWithKey.get(node.key);
    if (twin === undefined) firstWithKey.set(node.key, node.id);
    else schedule.twins.set(node.id, twin);
    const needs = new Set(twin === undefined ? node.needs : [...node.needs, twin]);
    for (const need of needs) {
      if (!schedule.states.has(need))
        throw new RangeError(`${node.id} needs ${need}, which is not earlier in the plan`);
      const dependents = schedule.dependents.get(need);
      if (dependents) dependents.push(node.id);
      else schedule.dependents.set(need, [node.id]);
    }
    schedule.missing.set(node.id, needs.size);
    const state = needs.size === 0 ? 'ready' : 'waiting';
    schedule.states.set(node.id, state);
    schedule.counts[state] += 1;
    if (state === 'ready') schedule.ready.add(node.id);
  }
  return schedule;
}

const letters: Record<NodeState, string> = {
  waiting: '.',
  ready: '.',
  running: 'r',
  completed: 'c',
  failed: 'f',
  cancelled: 'x',
  skipped: 's',
};

/** A letter for each node in plan order. */
export const encodeStates = ({ states }: Schedule): string =>
  [...states.values()].map((state) => letters[state]).join('');

/** The schedule of nodes of which some have started or ended before. @throws RangeError when there is not one letter a node */
export function restoreSchedule(nodes: readonly SchedulableNode[], encoded: string): Schedule {
  if (encoded.length !== nodes.length) throw new RangeError(`${encoded.length} states for ${nodes.length} nodes`);
  const schedule = createSchedule(nodes);
  const known = new Map(Object.entries(letters).map(([state, letter]) => [letter, state as NodeState]));
  for (const [index, { id }] of nodes.entries()) {
    if (encoded[index] === letters.completed) advance(schedule, { type: 'completed', id });
  }
  for (const [index, { id }] of nodes.entries()) {
    const letter = encoded[index]!;
    if (letter !== letters.completed && letter !== letters.ready) move(schedule, id, known.get(letter)!);
  }
  return schedule;
}

/**
 * @returns the schedule after the event, and the nodes that can no longer run because of it
 * @throws RangeError when the event does not fit the node's state
 */
export function advance(schedule: Schedule, event: ScheduleEvent): { schedule: Schedule; skipped: Skipped[] } {
  const skipped: Skipped[] = [];
  if (event.type === 'halted') {
    for (const [id, state] of schedule.states) {
      if (state !== 'waiting' && state !== 'ready') continue;
      move(schedule, id, 'skipped');
      skipped.push({ node: id, because: event.because });
    }
    return { schedule, skipped };
  }
  const state = schedule.states.get(event.id);
  switch (event.type) {
    case 'started':
      expectState(event.id, state, ['ready']);
      move(schedule, event.id, 'running');
      break;
    case 'joined':
      expectState(event.id, state, ['waiting']);
      move(schedule, event.id, 'running');
      break;
    case 'completed':
      // A cached result ends a node that never started, whether or not its inputs are there.
      expectState(event.id, state, ['waiting', 'ready', 'running']);
      move(schedule, event.id, 'completed');
      for (const dependent of schedule.dependents.get(event.id) ?? []) {
        const missing = schedule.missing.get(dependent)! - 1;
        schedule.missing.set(dependent, missing);
        if (missing === 0 && schedule.states.get(dependent) === 'waiting') move(schedule, dependent, 'ready');
      }
      break;
    case 'failed':
    case 'cancelled':
      expectState(event.id, state, ['ready', 'running']);
      move(schedule, event.id, event.type);
      skipDependents(schedule, event.id, event.id, skipped);
      break;
    case 'dropped':
      expectState(event.id, state, ['running']);
      move(schedule, event.id, 'skipped');
      skipped.push({ node: event.id, because: event.because });
      skipDependents(schedule, event.id, event.because, skipped);
      break;
  }
  return { schedule, skipped };
}

function skipDependents(schedule: Schedule, of: string, because: string, skipped: Skipped[]): void {
  const queue = [of];
  for (let id = queue.pop(); id !== undefined; id = queue.pop()) {
    for (const dependent of schedule.dependents.get(id) ?? []) {
      if (schedule.states.get(dependent) !== 'waiting') continue;
      move(schedule, dependent, 'skipped');
      skipped.push({ node: dependent, because });
      queue.push(dependent);
    }
  }
}

/**
 * Ready nodes, and after each of them those that need nothing else but what is taken already, so that one child can run
 * all of it; at most `most`. Twins, and what `takes` or `fits` refuses, are left out.
 *
 * @param fits asked once of each node that would be taken; `before` is the last taken of what it needs, null when it is ready
 */
export function takeTogether(
  schedule: Schedule,
  most: number,
  takes: (id: string) => boolean,
  fits: (id: string, before: string | null) => boolean = () => true,
): string[] {
  const { ready, missing, dependents, twins, states } = schedule;
  const taken = new Set<string>();
  const left = new Map<string, number>();
  const take = (first: string): void => {
    const pending: [id: string, before: string | null][] = [[first, null]];
    for (let next = pending.pop(); next !== undefined && taken.size < most; next = pending.pop()) {
      const [id, before] = next;
      if (!fits(id, before)) continue;
      taken.add(id);
      for (const dependent of dependents.get(id) ?? []) {
        if (states.get(dependent) !== 'waiting' || twins.has(dependent) || !takes(dependent)) continue;
        const still = (left.get(dependent) ?? missing.get(dependent)!) - 1;
        left.set(dependent, still);
        if (still === 0) pending.push([dependent, id]);
      }
    }
  };
  for (const id of ready) {
    if (taken.size >= most) break;
    if (!twins.has(id) && takes(id)) take(id);
  }
  return [...taken];
}

function move(schedule: Schedule, id: string, to: NodeState): void {
  const from = schedule.states.get(id)!;
  schedule.counts[from] -= 1;
  schedule.counts[to] += 1;
  schedule.states.set(id, to);
  if (from === 'ready') schedule.ready.delete(id);
  if (to === 'ready') schedule.ready.add(id);
}

function expectState(id: string, state: NodeState | undefined, allowed: NodeState[]): void {
  if (state === undefined) throw new RangeError(`${id} is not in the plan`);
  if (!allowed.includes(state)) throw new RangeError(`${id} is ${state}, not ${allowed.join(' or ')}`);
}
