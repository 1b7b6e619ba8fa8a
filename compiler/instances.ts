/** @file From steps to nodes: one for each combination of the axes that a step uses. */

import { jsonDigest } from '../schemas/canonical-json.ts';
import { EpsilonflowError, type Position } from '../schemas/errors.ts';
import { joinLabels, joinSensitivities } from '../schemas/labels.ts';
import type { JsonValue, PlanDataset, PlanInput, PlanModel, PlanNode } from '../schemas/plan.ts';
import type { Epsilon, FinetuneParams, TrainClassifierParams } from '../schemas/step-params.ts';
import { isExpression, parseExpression } from './expressions.ts';
import type { FaultList } from './faults.ts';
import { kinds } from './kinds.ts';
import type { Combination, Matrix } from './matrix.ts';
import type { MechanismPlanner } from './mechanisms.ts';
import { instanceId, slugger } from './naming.ts';
import type { WaiverName } from './resources.ts';
import { child, type Source, type SourceScalar, toPlain } from './source.ts';
import { checkParameters, withDefaults } from './spec-schema.ts';
import type { InputTemplate, StepTemplate } from './steps.ts';

/** More instances than this are taken for a mistake. */
const maxInstances = 100_000;

export interface Resources {
  datasets: ReadonlyMap<string, PlanDataset>;
  models: ReadonlyMap<string, PlanModel>;
  waivers: ReadonlySet<WaiverName>;
  planner: MechanismPlanner;
}

/** A node with what later nodes need to know of it. */
interface Instance {
  node: PlanNode;
  combination: Combination;
  /** Epsilons of the mechanisms behind it, `inf` among them; empty when everything is public. */
  epsilons: ReadonlySet<Epsilon>;
  /** Class names of what it makes; null when it has none. */
  classes: string[] | null;
}

/** Instantiates all steps. Nodes come in topological order, then in the order of the spec and of the axis values. */
export function instantiate(
  ordered: StepTemplate[],
  matrix: Matrix,
  resources: Resources,
  faults: FaultList,
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
  const builder = new InstanceBuilder(ordered, matrix, resources, faults);
  return ordered.flatMap((step) => builder.build(step));
}

class InstanceBuilder {
  readonly #matrix: Matrix;
  readonly #resources: Resources;
  readonly #faults: FaultList;
  readonly #steps: Map<string, StepTemplate>;
  readonly #instances = new Map<string, Instance[]>();
  readonly #byId = new Map<string, Instance>();
  readonly #groups = new Map<string, Map<string, Instance[]>>();
  readonly #slug = slugger();
  /** Steps that lack instances because of faults; what needs those is not to blame. */
  readonly #faulty = new Set<string>();

  constructor(ordered: StepTemplate[], matrix: Matrix, resources: Resources, faults: FaultList) {
    this.#matrix = matrix;
    this.#resources = resources;
    this.#faults = faults;
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
    const plain = toPlain(source);
    if (!checkParameters(step.kind, source, plain, this.#faults)) return undefined;

    if (step.faulty) return undefined;

    const inputs: Record<string, PlanInput> = {};
    const sources = new Map<string, Instance[]>();
    let complete = true;
    for (const input of step.inputs) {
      const resolved = this.#input(step, input, values);
      if (resolved === undefined) complete = false;
      else if (Array.isArray(resolved)) {
        sources.set(input.role, resolved);
        inputs[input.role] = { nodes: resolved.map(({ node }) => node.id) };
      } else inputs[input.role] = resolved;
    }
    const generator = sources.get('generator')?.[0];
    if (generator !== undefined) inputs['model'] = generator.node.inputs['model']!;
    if (!complete) return undefined;

    const shownAxes = Object.fromEntries(
      step.axes.map((axis, place) => [axes[axis]!.name, axes[axis]!.values[combination[place]!]!.label]),
    );
    const id = instanceId(step.name, shownAxes);
    const params = withDefaults(step.kind, plain) as { [key: string]: JsonValue };
    for (const role of Object.keys(kinds[step.kind].inputs)) delete params[role];
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
    } satisfies PlanNode as PlanNode;
    const context = new NodeContext(node, step, source, sources, this.#resources, this.#faults);
    const instance = context.finish(combination);
    if (instance === undefined) return undefined;
    node.key = this.#contentKey(node);
    this.#byId.set(id, instance);
    return instance;
  }

  /** The tree with its matrix expressions replaced; what names steps stays. */
  #substitute<S extends Source>(source: S, values: ReadonlyMap<number, number>): S;
  #substitute(source: Source, values: ReadonlyMap<number, number>): Source {
    if (source.type === 'list') return { ...source, items: source.items.map((item) => this.#substitute(item, values)) };
    if (source.type === 'map') {
      const entries = [...source.entries].map(
        ([key, entry]) => [key, { key: entry.key, value: this.#substitute(entry.value, values) }] as const,
      );
      return { ...source, entries: new Map(entries) };
    }
    return isExpression(source) ? this.#value(source, values) : source;
  }

  #value(source: SourceScalar, values: ReadonlyMap<number, number>): Source {
    const expression = parseExpression(source, this.#faults);
    if (expression?.type !== 'matrix') return source;
    const axis = this.#matrix.axes.findIndex(({ name }) => name === expression.axis);
    const value = values.get(axis);
    return value === undefined ? source : this.#matrix.axes[axis]!.values[value]!.value;
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

  /** Digest of kind, version, parameters, mechanism and the digests of the inputs; names and places are not in it. */
  #contentKey({ kind, kindVersion, params, inputs, privacy, release }: PlanNode): string {
    const { datasets, models } = this.#resources;
    const keys = Object.entries(inputs).map(([role, input]) => {
      if ('dataset' in input) return [role, { dataset: datasets.get(input.dataset)!.digest }] as const;
      if ('model' in input) return [role, { model: models.get(input.model)!.digest }] as const;
      return [role, { nodes: input.nodes.map((id) => this.#byId.get(id)!.node.key) }] as const;
    });
    const withoutDp = privacy === undefined || privacy.mechanism.kind === 'unbounded';
    return jsonDigest({
      kind,
      kindVersion,
      // Settings of DP training are read only where there is a mechanism.
      params: withoutDp ? { ...params, dp: undefined } : params,
      inputs: Object.fromEntries(keys),
      mechanism: privacy?.digest,
      release: release?.digest,
    });
  }
}

/** Decides what a node is with regard to privacy, by its kind: label, sensitivity, waivers, mechanism. */
class NodeContext {
  readonly #node: PlanNode;
  readonly #step: StepTemplate;
  readonly #source: Source;
  readonly #sources: Map<string, Instance[]>;
  readonly #resources: Resources;
  readonly #faults: FaultList;

  constructor(
    node: PlanNode,
    step: StepTemplate,
    source: Source,
    sources: Map<string, Instance[]>,
    resources: Resources,
    faults: FaultList,
  ) {
    this.#node = node;
    this.#step = step;
    this.#source = source;
    this.#sources = sources;
    this.#resources = resources;
    this.#faults = faults;
  }

  finish(combination: Combination): Instance | undefined {
    const upstream = [...this.#sources.values()].flat();
    this.#node.label = joinLabels(upstream.map(({ node }) => node.label));
    this.#node.sensitivity = joinSensitivities([
      ...upstream.map(({ node }) => node.sensitivity),
      ...Object.values(this.#node.inputs).flatMap((input) => this.#dataset(input)?.sensitivity ?? []),
    ]);
    let classes: string[] | null | undefined;
    switch (this.#node.kind) {
      case 'pretrain':
        classes = this.#pretrain();
        break;
      case 'finetune':
        classes = this.#finetune();
        break;
      case 'generate':
        classes = upstream[0]?.classes ?? null;
        break;
      case 'train-classifier':
        classes = this.#classifier();
        break;
      case 'compare':
        classes = this.#compare();
        break;
    }
    if (classes === undefined) return undefined;
    const epsilons = new Set(upstream.flatMap((instance) => [...instance.epsilons]));
    if (this.#node.privacy !== undefined) epsilons.add(this.#node.privacy.targetEpsilon);
    return { node: this.#node, combination, epsilons, classes };
  }

  #dataset(input: PlanInput | undefined): PlanDataset | undefined {
    return input !== undefined && 'dataset' in input ? this.#resources.datasets.get(input.dataset) : undefined;
  }

  /** Where an input or parameter is written; the step when it isn't. */
  #at(...path: string[]): Position {
    let source: Source | undefined = this.#step.with;
    for (const part of path) source = child(source, part);
    return source?.at ?? this.#step.at;
  }

  /** A dataset in a role that needs a split, and perhaps classes. */
  #usable(role: string): PlanDataset | undefined {
    const dataset = this.#dataset(this.#node.inputs[role]);
    if (dataset === undefined) return undefined;
    const { split, labelled } = kinds[this.#node.kind].inputs[role]!;
    if (split !== undefined && dataset.files[split] === undefined) {
      const hint = `Add files.${split} to the dataset.`;
      this.#faults.add('SPEC_REFERENCE_KIND', `Dataset "${dataset.name}" has no ${split} split`, this.#at(role), hint);
      return undefined;
    }
    if (labelled === true && dataset.label === null) {
      const hint = 'Add "label" with its values to the dataset.';
      this.#faults.add('SPEC_REFERENCE_KIND', `Dataset "${dataset.name}" has no classes`, this.#at(role), hint);
      return undefined;
    }
    return dataset;
  }

  #pretrain(): null | undefined {
    const corpus = this.#usable('corpus');
    if (corpus === undefined) return undefined;
    if (corpus.sensitivity === 'public') return null;
    this.#faults.add(
      'SPEC_PRIVACY',
      `Pre-training reads public text only; dataset "${corpus.name}" is ${corpus.sensitivity}`,
      this.#at('corpus'),
      'A base model that has seen the data makes every later epsilon meaningless.',
    );
    return undefined;
  }

  #finetune(): string[] | undefined {
    const data = this.#usable('data');
    if (data === undefined) return undefined;
    const params = this.#node.params as FinetuneParams;
    if (data.sensitivity === 'public') params.epsilon = 'inf';
    else {
      const { epsilon, steps, batch, clip } = params;
      if (!this.#train(data, { epsilon, steps, batch, clip }, ['batch'])) return undefined;
    }
    return data.label!.values;
  }

  #classifier(): null | undefined {
    const params = this.#node.params as TrainClassifierParams;
    const synthetic = this.#sources.get('train')?.[0];
    const train = synthetic === undefined ? this.#usable('train') : undefined;
    const test = this.#usable('test');
    if (test === undefined || (synthetic === undefined && train === undefined)) return undefined;
    if (!this.#sameClasses(synthetic?.classes ?? train?.label?.values ?? [], test)) return undefined;
    if (train === undefined || train.sensitivity === 'public') params.epsilon = 'inf';
    else {
      if ((params.epsilon as Epsilon | undefined) === undefined) {
        const message = `"epsilon" is needed: classifiers of ${this.#step.name} train on the ${train.sensitivity} dataset "${train.name}"`;
        this.#faults.add('SPEC_MISSING_KEY', message, this.#at(), 'Give a number, or .inf for training without DP.');
        return undefined;
      }
      const { steps, batch, clip } = params.dp;
      if (!this.#train(train, { epsilon: params.epsilon, steps, batch, clip }, ['dp', 'batch'])) return undefined;
    }
    return this.#evaluate(test) ? null : undefined;
  }

  /** Classes are matched by name; their order may differ. */
  #sameClasses(classes: string[], test: PlanDataset): boolean {
    const others = test.label!.values;
    if (classes.length === others.length && classes.every((name) => others.includes(name))) return true;
    const list = (names: string[]): string => `[${names.join(', ')}]`;
    this.#faults.add(
      'SPEC_REFERENCE_KIND',
      `The training data have the classes ${list(classes)}, dataset "${test.name}" has ${list(others)}`,
      this.#at('test'),
      'Train and test data need the same label values.',
    );
    return false;
  }

  /** Charges training on a dataset that isn't public. */
  #train(
    dataset: PlanDataset,
    request: { epsilon: Epsilon; steps: number; batch: number; clip: number },
    batchPath: string[],
  ): boolean {
    const node = this.#node;
    const size = dataset.privacy!.size;
    if (request.epsilon === 'inf') {
      if (dataset.sensitivity === 'private' && !this.#mayTrainWithoutDp(dataset)) return false;
      node.label = 'non-private';
    } else {
      if (request.batch > size) {
        const message = `A batch of ${request.batch} is more than the ${size} records of dataset "${dataset.name}"`;
        this.#faults.add('SPEC_PRIVACY', message, this.#at(...batchPath), 'Take a smaller expected batch size.');
        return false;
      }
      node.label = joinLabels([node.label, 'dp']);
    }
    const privacy = this.#mechanism(['epsilon'], () => this.#resources.planner.plan(dataset, request));
    if (privacy === undefined) return false;
    node.privacy = privacy;
    return true;
  }

  /** Plans a mechanism that is asked for at a place among the parameters. */
  #mechanism<T>(path: string[], plan: () => T): T | undefined {
    try {
      return plan();
    } catch (error) {
      if (!(error instanceof EpsilonflowError)) throw error;
      let asked: Source | undefined = this.#source;
      for (const part of path) asked = child(asked, part);
      this.#faults.add('SPEC_PRIVACY', error.message, asked?.at ?? this.#step.at, error.hint);
      return undefined;
    }
  }

  /**
   * Test metrics of a private split are computed from noisy counts, which are charged; under the waiver, and of a
   * benchmark, they are exact values.
   */
  #evaluate(test: PlanDataset): boolean {
    const node = this.#node;
    const params = node.params as TrainClassifierParams;
    const { release } = params;
    delete params.release;
    if (test.sensitivity === 'public') return true;
    if (test.sensitivity === 'benchmark' || this.#resources.waivers.has('test-metrics')) {
      if (test.sensitivity === 'private') this.#waive('test-metrics');
      node.label = 'non-private';
      return true;
    }
    const { epsilon } = release!;
    if (test.privacy === null) {
      const hint = 'Set privacy.size to a public number of records: delta follows from it.';
      const message = `Test counts of private dataset "${test.name}" need a declared size`;
      this.#faults.add('SPEC_PRIVACY', message, this.#at('test'), hint);
      return false;
    }
    const charge = this.#mechanism(['release', 'epsilon'], () => this.#resources.planner.release(test, epsilon));
    if (charge === undefined) return false;
    params.release = { epsilon };
    node.release = charge;
    node.label = joinLabels([node.label, 'dp']);
    return true;
  }

  #waive(name: WaiverName): void {
    this.#node.waivers = [...new Set([...this.#node.waivers, name])].sort();
  }

  #mayTrainWithoutDp(dataset: PlanDataset): boolean {
    if (this.#resources.waivers.has('non-private-training')) {
      this.#waive('non-private-training');
      return true;
    }
    this.#faults.add(
      'SPEC_PRIVACY',
      `Training without DP on private dataset "${dataset.name}" gives no guarantee at all`,
      child(this.#source, 'epsilon')?.at ?? this.#step.at,
      'Give a finite epsilon, or state waive: [{ name: non-private-training, reason: ... }].',
    );
    return false;
  }

  #compare(): null | undefined {
    const arms = [...this.#sources].filter(([role]) => role !== 'ceiling');
    const shown = new Map<string, string>();
    for (const [role, instances] of arms) {
      for (const { epsilons, node } of instances) {
        const level = epsilons.size === 0 ? undefined : strongest(epsilons);
        if (level !== undefined && !shown.has(String(level))) shown.set(String(level), `${role.slice(5)} (${node.id})`);
      }
    }
    if (shown.size > 1) {
      const list = [...shown].map(([epsilon, arm]) => `${arm} at epsilon ${epsilon}`).join(', ');
      this.#faults.add(
        'SPEC_COMPARE',
        `Arms at unequal epsilon do not compare: ${list}`,
        this.#at('arms'),
        'Give all arms the same epsilon; a reference without DP is the "ceiling".',
      );
      return undefined;
    }
    // What is compared leaves only if each of its figures may: a waiver of one arm is none for the others.
    const compared = [...this.#sources.values()].flat().map(({ node }) => node);
    const waivers = new Set(compared.flatMap((node) => node.waivers));
    const waived = (node: PlanNode): boolean => node.waivers.includes('test-metrics');
    const isShut = (node: PlanNode): boolean => node.label === 'non-private' && node.sensitivity === 'private';
    if (compared.some((node) => isShut(node) && !waived(node))) waivers.delete('test-metrics');
    this.#node.waivers = [...waivers].sort();
    return null;
  }
}

/** The largest of some epsilons. */
function strongest(epsilons: ReadonlySet<Epsilon>): Epsilon {
  if (epsilons.has('inf')) return 'inf';
  return Math.max(...[...epsilons].filter((epsilon) => epsilon !== 'inf'));
}
