/** @file Why a node has no result to use again: what differs from the nearest earlier instance that has one. Pure. */

import { canonicalJson } from '../schemas/canonical-json.ts';
import type { JsonValue, Plan, PlanInput, PlanNode } from '../schemas/plan.ts';
import { keyedParameters } from './keyed-parameters.ts';

/** One difference; `from` and `to` are absent where only a digest tells that something changed. */
export interface Change {
  what: 'parameter' | 'input' | 'data' | 'model' | 'privacy' | 'version';
  /** Path of a parameter, role of an input, name of a dataset or model. */
  name: string;
  from?: JsonValue;
  to?: JsonValue;
  /** Line of the spec where the new value stands; null when it isn't written. */
  line: number | null;
}

export interface Miss {
  /** Id of the earlier instance; null: nothing of its kind has a result. */
  nearest: string | null;
  /** Empty beside a `nearest`: the same was planned before, and its result is not there or not paid for here. */
  changes: Change[];
}

/** Where a value of a node stands in the spec: `with` followed by the path. */
export type PlaceOf = (node: PlanNode, path: readonly string[]) => number | null;

/** Candidates of one step that are compared when none has the same id: a matrix may hold thousands. */
const MOST_COMPARED = 8;

/** @param earlier plans of earlier runs, the newest first. @param isThere whether a content key has a result. */
export async function missesOf(
  plan: Plan,
  earlier: readonly Plan[],
  isThere: (key: string) => Promise<boolean>,
  placeOf: PlaceOf,
): Promise<Map<string, Miss>> {
  const now = new Comparison(plan, placeOf);
  const before = earlier.map((each) => new EarlierPlan(each));
  const misses = new Map<string, Miss>();
  for (const node of plan.nodes) {
    if (node.cached !== false) continue;
    misses.set(node.id, await missOf(node, now, before, isThere));
  }
  return misses;
}

async function missOf(
  node: PlanNode,
  now: Comparison,
  before: readonly EarlierPlan[],
  isThere: (key: string) => Promise<boolean>,
): Promise<Miss> {
  for (const plan of before) {
    const same = plan.byKey.get(node.key);
    if (same !== undefined) return { nearest: same.id, changes: [] };
  }
  for (const plan of before) {
    const namesake = plan.byId.get(node.id);
    if (namesake?.kind === node.kind && (await isThere(namesake.key))) {
      return { nearest: namesake.id, changes: now.changes(node, namesake, plan) };
    }
  }
  for (const plan of before) {
    const found: Miss[] = [];
    for (const candidate of plan.like(node)) {
      if (await isThere(candidate.key)) {
        found.push({ nearest: candidate.id, changes: now.changes(node, candidate, plan) });
      }
    }
    const [nearest] = found.sort((a, b) => a.changes.length - b.changes.length);
    if (nearest !== undefined) return nearest;
  }
  return { nearest: null, changes: [] };
}

class EarlierPlan {
  readonly plan: Plan;
  readonly byId: ReadonlyMap<string, PlanNode>;
  readonly byKey: ReadonlyMap<string, PlanNode>;
  readonly #alike = new Map<string, readonly PlanNode[]>();

  constructor(plan: Plan) {
    this.plan = plan;
    this.byId = new Map(plan.nodes.map((node) => [node.id, node]));
    this.byKey = new Map(plan.nodes.map((node) => [node.key, node]));
  }

  /** Instances of the same step or, where it has none, of the same kind. */
  like({ step, kind }: PlanNode): readonly PlanNode[] {
    let found = this.#alike.get(`${kind}/${step}`);
    if (found === undefined) {
      const alike = this.plan.nodes.filter((node) => node.kind === kind);
      const ofStep = alike.filter((node) => node.step === step);
      found = (ofStep.length > 0 ? ofStep : alike).slice(0, MOST_COMPARED);
      this.#alike.set(`${kind}/${step}`, found);
    }
    return found;
  }
}

class Comparison {
  readonly #plan: Plan;
  readonly #byId: ReadonlyMap<string, PlanNode>;
  readonly #placeOf: PlaceOf;

  constructor(plan: Plan, placeOf: PlaceOf) {
    this.#plan = plan;
    this.#byId = new Map(plan.nodes.map((node) => [node.id, node]));
    this.#placeOf = placeOf;
  }

  changes(node: PlanNode, earlier: PlanNode, { plan, byId }: EarlierPlan): Change[] {
    const line = (path: readonly string[]): number | null => this.#placeOf(node, path);
    const changes: Change[] = [];
    if (node.kindVersion !== earlier.kindVersion) {
      const [from, to] = [earlier.kindVersion, node.kindVersion];
      changes.push({ what: 'version', name: node.kind, from, to, line: null });
    }
    for (const { path, from, to } of differences(keyed(earlier), keyed(node))) {
      changes.push({ what: 'parameter', name: path.join('.'), ...given(from, to), line: line(path) });
    }
    for (const role of new Set([...Object.keys(node.inputs), ...Object.keys(earlier.inputs)])) {
      const [from, to] = [earlier.inputs[role], node.inputs[role]];
      const old = from && describe(from, plan, byId);
      const made = to && describe(to, this.#plan, this.#byId);
      if (old?.identity === made?.identity) continue;
      const at = line(role.split('.'));
      // Under one name its content changed, and only a digest tells of that.
      if (old !== undefined && old.shown === made?.shown) {
        changes.push({ what: made.what, name: made.what === 'input' ? role : made.shown, line: at });
      } else changes.push({ what: 'input', name: role, ...given(old?.shown, made?.shown), line: at });
    }
    return [...changes, ...privacyChanges(node, this.#plan, earlier, plan)];
  }
}

const given = (from: JsonValue | undefined, to: JsonValue | undefined): Pick<Change, 'from' | 'to'> => ({
  ...(from !== undefined && { from }),
  ...(to !== undefined && { to }),
});

/** The parameters that the content key holds. */
function keyed(node: PlanNode): { [name: string]: JsonValue } {
  const isKeyed = keyedParameters(node);
  const entries = Object.entries(node.params as unknown as { [name: string]: JsonValue });
  return Object.fromEntries(entries.filter(([name]) => isKeyed(name)));
}

interface Difference {
  path: string[];
  from: JsonValue | undefined;
  to: JsonValue | undefined;
}

const isMapping = (value: JsonValue | undefined): value is { [name: string]: JsonValue } =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function differences(from: JsonValue | undefined, to: JsonValue | undefined, path: string[] = []): Difference[] {
  if (isMapping(from) && isMapping(to)) {
    const names = new Set([...Object.keys(to), ...Object.keys(from)]);
    return [...names].flatMap((name) => differences(from[name], to[name], [...path, name]));
  }
  const same = from === undefined || to === undefined ? from === to : canonicalJson(from) === canonicalJson(to);
  return same ? [] : [{ path, from, to }];
}

/** Name of an input for people, and what of it the content key holds. */
function describe(
  input: PlanInput,
  { datasets, models }: Plan,
  byId: ReadonlyMap<string, PlanNode>,
): { what: Change['what']; shown: string; identity: string } {
  if ('dataset' in input) {
    return { what: 'data', shown: input.dataset, identity: datasets[input.dataset]!.digest };
  }
  if ('model' in input) return { what: 'model', shown: input.model, identity: models[input.model]!.digest };
  const shown = input.nodes.length === 1 ? input.nodes[0]! : `${input.nodes.length} instances`;
  return { what: 'input', shown, identity: input.nodes.map((id) => byId.get(id)!.key).join() };
}

/** Declared figures that change the mechanism without being parameters. */
function privacyChanges(node: PlanNode, plan: Plan, earlier: PlanNode, before: Plan): Change[] {
  const changes: Change[] = [];
  for (const [now, then] of [
    [node.privacy, earlier.privacy],
    [node.release, earlier.release],
  ] as const) {
    if (now === undefined || then === undefined || now.digest === then.digest) continue;
    for (const figure of ['size', 'delta'] as const) {
      const to = plan.datasets[now.dataset]!.privacy![figure];
      const from = before.datasets[then.dataset]!.privacy![figure];
      const name = `${figure} of ${now.dataset}`;
      if (from !== to && !changes.some((change) => change.name === name)) {
        changes.push({ what: 'privacy', name, from, to, line: null });
      }
    }
  }
  return changes;
}

const shown = (value: JsonValue | undefined): string =>
  value === undefined ? 'not set' : typeof value === 'string' ? value : JSON.stringify(value);

/** A change on one line. */
export function changeText({ what, name, from, to, line }: Change): string {
  const place = line === null ? '' : ` at line ${line}`;
  switch (what) {
    case 'version':
      return `code of ${name}: version ${shown(from)} -> ${shown(to)}`;
    case 'data':
      return `data of ${name} changed`;
    case 'model':
      return `files of model ${name} changed`;
    case 'input':
      return from === undefined && to === undefined
        ? `${name}: made anew`
        : `${name}: ${shown(from)} -> ${shown(to)}${place}`;
    default:
      return `${name}: ${shown(from)} -> ${shown(to)}${place}`;
  }
}

/** Whether a node only follows others that must run. */
export const isConsequence = ({ changes }: Miss): boolean =>
  changes.length > 0 &&
  changes.every(({ what, from, to }) => what === 'input' && from === undefined && to === undefined);

/** Why a node must run, on one line. */
export function missText({ nearest, changes }: Miss): string {
  if (nearest === null) return 'new';
  return changes.length === 0 ? 'planned before, and no result is there' : changes.map(changeText).join('; ');
}
