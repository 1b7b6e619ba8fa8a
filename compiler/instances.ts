/** @file From steps to nodes: one for each combination of the axes that a step uses. */

import { AlikeMappings, canonicalJson, TextDigest } from '../schemas/canonical-json.ts';
import type { JsonValue, Plan, PlanInput, PlanNode } from '../schemas/plan.ts';
import { isExpression, parseExpression } from './expressions.ts';
import type { FaultList } from './faults.ts';
import { keyedParameters } from './keyed-parameters.ts';
import { kinds } from './kinds.ts';
import type { Combination, Matrix } from './matrix.ts';
import { instanceId, slugger } from './naming.ts';
import { NodeContext, type Instance, type Resources } from './node-context.ts';
import { definitionOf, keysOfOthers, withDefaults } from './schema-defaults.ts';
import { sharedPlain, type Source, type SourceEntry, type SourceScalar, toPlain } from './source.ts';
import { ParameterCheck } from './spec-schema.ts';
import type { InputTemplate, StepTemplate } from './steps.ts';

/** More instances than this are taken for a mistake. */
const maxInstances = 100_000;

/** Instantiates all steps. Nodes come in topological order, then in the order of the spec and of the axis values. */
export function instantiate(
  ordered: StepTemplate[],
  matrix: Matrix,
  resources: Resources,
  faults: FaultList,
  reruns: Plan['reruns'] = [],
): PlanNode[] {
  const total = ordered.reduce((sum, step) => sum + matrix.project(step.axes).length, 0);
  if (total > maxInstances) {
    const hint = 'Drop an axis, or exclude combinations.';
    faults.add(
      'SPEC_MATRIX',
      `The spec makes ${total} instances; at most ${maxInstances} may be`,
      ordered[0]!.at,
      hint,
    );
    return [];
  }
  const builder = new InstanceBuilder(ordered, matrix, resources, faults, reruns);
  return ordered.flatMap((step) => builder.build(step));
}

class InstanceBuilder {
  readonly #matrix: Matrix;
  readonly #resources: Resources;
  readonly #faults: FaultList;
  readonly #reruns: NonNullable<Plan['reruns']>;
  readonly #steps: Map<string, StepTemplate>;
  readonly #instances = new Map<string, Instance[]>();
  readonly #byId = new Map<string, Instance>();
  readonly #groups = new Map<string, Map<string, Instance[]>>();
  readonly #slug = slugger();
  readonly #varying = new Map<Source, boolean>();
  readonly #check = new ParameterCheck();
  readonly #plain = sharedPlain();
  readonly #texts = { content: new AlikeMappings(), params: new AlikeMappings(), inputs: new AlikeMappings() };
  readonly #axisOfExpression = new Map<SourceScalar, number | undefined>();
  /** Steps that lack instances because of faults; what needs those is not to blame. */
  readonly #faulty = new Set<string>();

  constructor(
    ordered: StepTemplate[],
    matrix: Matrix,
    resources: Resources,
    faults: FaultList,
    reruns: NonNullable<Plan['reruns']>,
  ) {
    this.#matrix = matrix;
    this.#resources = resources;
    this.#faults = faults;
    this.#reruns = reruns;
    this.#steps = new Map(ordered.map((step) => [step.name, step]));
  }

  build(step: StepTemplate): PlanNode[] {
    const combinations = this.#matrix.project(step.axes);
    const instances = combinations.flatMap((combination) => this.#instance(step, combination) ?? []);
    this.#instances.set(step.name, instances);
    if (instances.length < combinations.length || instances.length === 0) this.#faulty.add(step.name);
    return instances.map(({ node }) => node);
  }

  #instance(step: StepTemplate, combination: Combination): Instance | undefined {
    const { axes } = this.#matrix;
    const values = new Map(step.axes.map((axis, place) => [axis, combination[place]!]));
    const source = this.#substitute(step.with, values);
    const given = this.#plain(source) as { [name: string]: JsonValue };
    const definition = definitionOf(step.kind, given);
    const foreign = keysOfOthers(step.kind, definition, given);
    const plain =
      foreign.size === 0 ? given : Object.fromEntries(Object.entries(given).filter(([key]) => !foreign.has(key)));
    if (!this.#check.check(definition, source, plain, this.#faults)) return undefined;

    if (step.faulty) return undefined;

    const inputs: Record<string, PlanInput> = {};
    const sources = new Map<string, Instance[]>();
    let complete = true;
    for (const input of step.inputs) {
      if (foreign.has(input.role)) continue;
      const resolved = this.#input(step, input, values);
      if (resolved === undefined) complete = false;
      else if (Array.isArray(resolved)) {
        sources.set(input.role, resolved);
        inputs[input.role] = { nodes: resolved.map(({ node }) => node.id) };
      } else inputs[input.role] = resolved;
    }
    if (step.kind === 'audit' && !this.#audited(inputs, sources)) complete = false;
    const generator = sources.get('generator')?.[0];
    if (generator !== undefined) inputs['model'] = generator.node.inputs['model']!;
    if (!complete) return undefined;

    const shownAxes = Object.fromEntries(
      step.axes.map((axis, place) => [axes[axis]!.name, axes[axis]!.values[combination[place]!]!.label]),
    );
    const id = instanceId(step.name, shownAxes);
    const { inputs: roles } = kinds[step.kind];
    const params: { [name: string]: JsonValue } = {};
    for (const [name, value] of Object.entries(withDefaults(definition, plain))) {
      if (!(name in roles)) params[name] = value;
    }
    const node = {
      id,
      slug: this.#slug(id),
      step: step.name,
      kind: step.kind,
      kindVersion: kinds[step.kind].version,
      key: '',
      axes: shownAxes,
      params: params as unknown as PlanNode['params'],
      inputs,
      needs: this.#needs(step, values, sources),
      label: 'public',
      sensitivity: 'public',
      waivers: [],
      position: step.at,
      cached: null,
      ...(step.needsApproval ? { approval: 'required' as const } : {}),
      ...(step.needsCard ? { device: 'gpu' as const } : {}),
    } satisfies PlanNode as PlanNode;
    const context = new NodeContext(node, step, source, sources, this.#resources, this.#faults);
    const instance = context.finish(combination);
    if (instance === undefined) return undefined;
    node.key = this.#contentKey(node);
    this.#byId.set(id, instance);
    return instance;
  }

  /** What an audit reads beside the synthetic set: what that was made from. False where it is made of nothing. */
  #audited(inputs: Record<string, PlanInput>, sources: Map<string, Instance[]>): boolean {
    const made = sources.get('synthetic')?.[0]?.node.inputs['generator'];
    if (made === undefined || !('nodes' in made)) return false;
    const generator = this.#byId.get(made.nodes[0]!)!;
    sources.set('generator', [generator]);
    inputs['generator'] = made;
    inputs['data'] = generator.node.inputs['data']!;
    return true;
  }

  /** The tree with its matrix expressions replaced; what names steps stays. Parts without any are shared. */
  #substitute<S extends Source>(source: S, values: ReadonlyMap<number, number>): S;
  #substitute(source: Source, values: ReadonlyMap<number, number>): Source {
    if (source.type === 'scalar') return this.#value(source, values);
    if (!this.#varies(source)) return source;
    if (source.type === 'list') return { ...source, items: source.items.map((item) => this.#substitute(item, values)) };
    const entries = new Map<string, SourceEntry>();
    for (const [name, { key, value }] of source.entries) {
      entries.set(name, { key, value: this.#substitute(value, values) });
    }
    return { ...source, entries };
  }

  /** Whether a matrix expression stands anywhere in it. */
  #varies(source: Source): boolean {
    if (source.type === 'scalar') return this.#axisOf(source) !== undefined;
    let varies = this.#varying.get(source);
    if (varies === undefined) {
      const parts = source.type === 'list' ? source.items : [...source.entries.values()].map(({ value }) => value);
      // All parts are read, so that each malformed expression is a fault.
      varies = parts.map((part) => this.#varies(part)).includes(true);
      this.#varying.set(source, varies);
    }
    return varies;
  }

  #value(source: SourceScalar, values: ReadonlyMap<number, number>): Source {
    const axis = this.#axisOf(source);
    const value = axis === undefined ? undefined : values.get(axis);
    return value === undefined ? source : this.#matrix.axes[axis!]!.values[value]!.value;
  }

  /** Index of the axis that a matrix expression names; undefined for all else. */
  #axisOf(source: SourceScalar): number | undefined {
    if (!isExpression(source)) return undefined;
    if (!this.#axisOfExpression.has(source)) {
      const expression = parseExpression(source, this.#faults);
      const axis =
        expression?.type === 'matrix' ? this.#matrix.axes.findIndex(({ name }) => name === expression.axis) : -1;
      this.#axisOfExpression.set(source, axis < 0 ? undefined : axis);
    }
    return this.#axisOfExpression.get(source);
  }

  #input(
    step: StepTemplate,
    { role, at, target }: InputTemplate,
    values: ReadonlyMap<number, number>,
  ): PlanInput | Instance[] | undefined {
    if (target.type === 'step') {
      const found = this.#matching(target.step, step, values, target.pins);
      const isFaulty = !this.#steps.has(target.step) || this.#faulty.has(target.step);
      if (found.length === 0 && isFaulty) return undefined;
      if (found.length === 0) {
        const place = this.#describe(target.step, values, target.pins);
        this.#faults.add('SPEC_MATRIX', `"${role}" of ${step.name} needs ${place}, which is excluded`, at);
        return undefined;
      }
      return found;
    }
    const name =
      target.type === 'name'
        ? target.name
        : String(toPlain(this.#matrix.axes[target.axis]!.values[values.get(target.axis)!]!.value));
    // A resource with faults is missing here; its faults are reported already.
    if (target.of === 'dataset') return this.#resources.datasets.has(name) ? { dataset: name } : undefined;
    return this.#resources.models.has(name) ? { model: name } : undefined;
  }

  /** Instances of a step that agree with a combination on the axes that both have; all values of the others. */
  #matching(
    name: string,
    consumer: StepTemplate,
    values: ReadonlyMap<number, number>,
    pins: ReadonlyMap<number, number>,
  ): Instance[] {
    const input = this.#steps.get(name);
    if (input === undefined) return [];
    const shared = input.axes.filter((axis) => !pins.has(axis) && consumer.axes.includes(axis));
    const key = `${name}|${shared.join()}|${[...pins].join(';')}`;
    let group = this.#groups.get(key);
    if (group === undefined) {
      group = new Map();
      const places = shared.map((axis) => input.axes.indexOf(axis));
      const pinned = [...pins].map(([axis, value]) => ({ place: input.axes.indexOf(axis), value }));
      for (const instance of this.#instances.get(name) ?? []) {
        if (!pinned.every(({ place, value }) => instance.combination[place] === value)) continue;
        const part = places.map((place) => instance.combination[place]).join();
        const list = group.get(part);
        if (list === undefined) group.set(part, [instance]);
        else list.push(instance);
      }
      this.#groups.set(key, group);
    }
    return group.get(shared.map((axis) => values.get(axis)).join()) ?? [];
  }

  #describe(name: string, values: ReadonlyMap<number, number>, pins: ReadonlyMap<number, number>): string {
    const { axes } = this.#matrix;
    const shown = this.#steps.get(name)!.axes.flatMap((axis) => {
      const value = pins.get(axis) ?? values.get(axis);
      return value === undefined ? [] : [[axes[axis]!.name, axes[axis]!.values[value]!.label] as const];
    });
    return instanceId(name, Object.fromEntries(shown));
  }

  #needs(step: StepTemplate, values: ReadonlyMap<number, number>, sources: Map<string, Instance[]>): string[] {
    const needs = new Set([...sources.values()].flatMap((list) => list.map(({ node }) => node.id)));
    for (const { step: name } of step.needs) {
      for (const { node } of this.#matching(name, step, values, new Map())) needs.add(node.id);
    }
    return [...needs].sort();
  }

  /** Digest of kind, version, parameters, mechanism, reruns and the digests of the inputs; names and places are not in it. */
  #contentKey({ step, kind, kindVersion, params, inputs, privacy, release }: PlanNode): string {
    const nonces = this.#reruns.filter((rerun) => rerun.step === step).map(({ nonce }) => nonce);
    const isKeyed = keyedParameters({ privacy });
    const texts = this.#texts;
    const content = {
      kind: canonicalJson(kind),
      kindVersion: canonicalJson(kindVersion),
      params: texts.params.textOf(params, (name, value) => (isKeyed(name) ? texts.params.valueOf(value) : undefined)),
      inputs: texts.inputs.textOf(inputs, (_role, input) => this.#inputText(input as PlanInput)),
      mechanism: privacy && canonicalJson(privacy.digest),
      release: release && canonicalJson(release.digest),
      reruns: nonces.length > 0 ? canonicalJson(nonces) : undefined,
    };
    const digest = new TextDigest();
    digest.add(texts.content.textOf(content, (_name, text) => text as string | undefined));
    return digest.hex();
  }

  #inputText(input: PlanInput): string {
    const { datasets, models } = this.#resources;
    if ('dataset' in input) return canonicalJson({ dataset: datasets.get(input.dataset)!.digest });
    if ('model' in input) return canonicalJson({ model: models.get(input.model)!.digest });
    return canonicalJson({ nodes: input.nodes.map((id) => this.#byId.get(id)!.node.key) });
  }
}
