/** @file What a node is with regard to privacy, by its kind: label, sensitivity, waivers, mechanisms. */

import { EpsilonflowError, type Position } from '../schemas/errors.ts';
import { joinLabels, joinSensitivities } from '../schemas/labels.ts';
import type { PlanDataset, PlanInput, PlanModel, PlanNode } from '../schemas/plan.ts';
import {
  arithmeticOf,
  type AuditParams,
  classifierArithmetic,
  type Epsilon,
  type FinetuneParams,
  type GenerateParams,
  type TrainClassifierParams,
} from '../schemas/step-params.ts';
import { isShut, levelsOf, waiversOf } from './compared-arms.ts';
import type { FaultList } from './faults.ts';
import { kinds } from './kinds.ts';
import type { Combination } from './matrix.ts';
import type { MechanismPlanner, TrainingRequest } from './mechanisms.ts';
import type { WaiverName } from './resources.ts';
import { child, type Source } from './source.ts';
import type { StepTemplate } from './steps.ts';

export interface Resources {
  datasets: ReadonlyMap<string, PlanDataset>;
  models: ReadonlyMap<string, PlanModel>;
  waivers: ReadonlySet<WaiverName>;
  planner: MechanismPlanner;
}

/** A node with what later nodes need to know of it. */
export interface Instance {
  node: PlanNode;
  combination: Combination;
  /** Epsilons of the mechanisms behind it, `inf` among them; empty when everything is public. */
  epsilons: ReadonlySet<Epsilon>;
  /** Whether it derives from a corpus without what is in private records: no epsilon bounds that, nor does an entry of the ledger. */
  decontaminated: boolean;
  /** Class names of what it makes; null when it has none. */
  classes: string[] | null;
}

/** Decides what a node is with regard to privacy, by its kind: label, sensitivity, waivers, mechanism. */
export class NodeContext {
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
      case 'decontaminate':
        classes = this.#decontaminate();
        break;
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
      case 'measure':
        classes = this.#measure();
        break;
      case 'audit':
        classes = this.#audit();
        break;
      case 'compare':
        classes = this.#compare();
        break;
    }
    if (classes === undefined) return undefined;
    const decontaminated =
      this.#node.waivers.includes('decontamination') || upstream.some((instance) => instance.decontaminated);
    return { node: this.#node, combination, epsilons: this.#epsilons(upstream), decontaminated, classes };
  }

  #epsilons(upstream: Instance[]): ReadonlySet<Epsilon> {
    const own = this.#node.privacy?.targetEpsilon;
    // Most nodes have one source, and share its set.
    if (own === undefined && upstream.length === 1) return upstream[0]!.epsilons;
    const epsilons = new Set(upstream.flatMap((instance) => [...instance.epsilons]));
    return own === undefined ? epsilons : epsilons.add(own);
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
    if (this.#sources.has('corpus')) return null;
    return this.#isPublicCorpus('Pre-training') ? null : undefined;
  }

  #isPublicCorpus(reader: string): boolean {
    const corpus = this.#usable('corpus');
    if (corpus === undefined) return false;
    if (corpus.sensitivity === 'public') return true;
    this.#faults.add(
      'SPEC_PRIVACY',
      `${reader} reads public text only; dataset "${corpus.name}" is ${corpus.sensitivity}`,
      this.#at('corpus'),
      'A base model that has seen the data makes every later epsilon meaningless.',
    );
    return false;
  }

  /**
   * What is taken out depends on the records of the other datasets, without any bound: of private ones only under a
   * waiver, and then the result is non-private. A benchmark stands in for private data that were never in the corpus,
   * and the result stays public.
   */
  #decontaminate(): null | undefined {
    if (!this.#isPublicCorpus('Decontamination')) return undefined;
    const roles = Object.keys(this.#node.inputs).filter((role) => role !== 'corpus');
    const allowed = roles.map((role) => {
      const dataset = this.#dataset(this.#node.inputs[role])!;
      return dataset.sensitivity !== 'private' || this.#mayDecontaminate(dataset);
    });
    return allowed.every(Boolean) && this.#readsFewPrivate(roles) ? null : undefined;
  }

  /** Where hosts share a store, a step waits for a worker that has its private data: queues are of two at most. */
  #readsFewPrivate(roles: readonly string[]): boolean {
    const read = roles.filter((role) => this.#dataset(this.#node.inputs[role])!.sensitivity === 'private');
    if (read.length <= 2) return true;
    const hint = 'Put the records of several into one dataset.';
    const message = `A step reads at most two private datasets, not ${read.length}`;
    this.#faults.add('SPEC_PRIVACY', message, this.#at('against'), hint);
    return false;
  }

  #mayDecontaminate(dataset: PlanDataset): boolean {
    if (!this.#resources.waivers.has('decontamination')) {
      this.#faults.add(
        'SPEC_PRIVACY',
        `A corpus without what is in private dataset "${dataset.name}" tells of its records, which no epsilon bounds`,
        this.#at('against'),
        'Choose a base model or corpus whose origin keeps the records out, such as text that is older than they are, ' +
          'or state waive: [{ name: decontamination, reason: ... }]: the result is then non-private.',
      );
      return false;
    }
    this.#waive('decontamination');
    this.#node.label = 'non-private';
    return this.#hasSize(dataset, 'against', 'Overlaps');
  }

  #finetune(): string[] | undefined {
    const data = this.#usable('data');
    if (data === undefined) return undefined;
    const params = this.#node.params as FinetuneParams;
    if (params.objective === 'full-lm' && params.conditioning !== 'prefix') {
      const message = `"full-lm" takes the loss on the words of the class, which ${params.conditioning} has none of`;
      const hint = 'Write "conditioning: prefix", or leave the objective out.';
      this.#faults.add('SPEC_SCHEMA', message, this.#at('objective'), hint);
      return undefined;
    }
    if (data.sensitivity === 'public') params.epsilon = 'inf';
    else {
      const { epsilon, steps, batch, clip } = params;
      const arithmetic = arithmeticOf(params.method);
      if (!this.#train(data, { epsilon, steps, batch, clip, arithmetic }, ['batch'])) return undefined;
    }
    return data.label!.values;
  }

  #classifier(): null | undefined {
    const params = this.#node.params as TrainClassifierParams;
    const synthetic = this.#sources.get('train')?.[0];
    const train = synthetic === undefined ? this.#usable('train') : undefined;
    const test = this.#usable('test');
    if (test === undefined || (synthetic === undefined && train === undefined)) return undefined;
    if (params.family === 'transformer' && !('model' in this.#node.inputs)) {
      const message = `"model" is needed: ${this.#step.name} trains a transformer`;
      this.#faults.add('SPEC_MISSING_KEY', message, this.#at(), 'Name a model, or a pretrain step.');
      return undefined;
    }
    if (!this.#sameClasses(synthetic?.classes ?? train?.label?.values ?? [], test)) return undefined;
    if (train === undefined || train.sensitivity === 'public') params.epsilon = 'inf';
    else {
      if ((params.epsilon as Epsilon | undefined) === undefined) {
        const message = `"epsilon" is needed: classifiers of ${this.#step.name} train on the ${train.sensitivity} dataset "${train.name}"`;
        this.#faults.add('SPEC_MISSING_KEY', message, this.#at(), 'Give a number, or .inf for training without DP.');
        return undefined;
      }
      const { steps, batch, clip } = params.dp;
      const arithmetic = classifierArithmetic(params);
      const request: TrainingRequest = { epsilon: params.epsilon, steps, batch, clip, arithmetic };
      if (!this.#train(train, request, ['dp', 'batch'])) return undefined;
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
  #train(dataset: PlanDataset, request: TrainingRequest, batchPath: string[]): boolean {
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
    const { release, ...params } = node.params as TrainClassifierParams;
    node.params = params;
    if (test.sensitivity === 'public') return true;
    if (test.sensitivity === 'benchmark') {
      node.label = 'non-private';
      return true;
    }
    if (!this.#hasSize(test, 'test', 'Test counts')) return false;
    if (this.#resources.waivers.has('test-metrics')) {
      if (this.#isDecontaminatedText()) return false;
      this.#waive('test-metrics');
      node.label = 'non-private';
      return true;
    }
    const { epsilon } = release!;
    const charge = this.#mechanism(['release', 'epsilon'], () => this.#resources.planner.release(test, epsilon));
    if (charge === undefined) return false;
    node.params = { ...params, release: { epsilon } };
    node.release = charge;
    node.label = joinLabels([node.label, 'dp']);
    return true;
  }

  /**
   * Exact metrics of one dataset's records must not tell of another's that its waiver says nothing of. Training without
   * DP has an unbounded entry on the account that it tells of, and may.
   */
  #isDecontaminatedText(): boolean {
    const [role, made] =
      (['train', 'model'] as const)
        .map((name) => [name, this.#sources.get(name)?.[0]] as const)
        .find(([, instance]) => instance?.decontaminated === true) ?? [];
    if (role === undefined) return false;
    const what = role === 'train' ? 'The text of' : 'Model';
    this.#faults.add(
      'SPEC_PRIVACY',
      `${what} ${made!.node.id} derives from a corpus decontaminated against private records, which exact metrics would tell of`,
      this.#at(role),
      'Take a base model that was not decontaminated against private data.',
    );
    return true;
  }

  /** Whether a private dataset without training records to count declares a size, which an account needs. */
  #hasSize({ name, privacy }: PlanDataset, role: string, figures: string): boolean {
    if (privacy !== null) return true;
    const hint = 'Set privacy.size to a public number of records: delta follows from it.';
    const message = `${figures} of private dataset "${name}" need a declared size`;
    this.#faults.add('SPEC_PRIVACY', message, this.#at(role), hint);
    return false;
  }

  /** All measures are exact: those of a benchmark may leave, those of private records under a waiver. */
  #measure(): null | undefined {
    const made = this.#sources.get('synthetic')?.[0]?.node;
    if (this.#tellsUnbounded('synthetic', 'The text of') || this.#tellsUnbounded('model', 'Model')) return undefined;
    const read = (made === undefined ? ['synthetic', 'real'] : ['real']).map((role) => ({
      role,
      dataset: this.#usable(role),
    }));
    for (const { role, dataset } of read) {
      if (dataset === undefined) return undefined;
      if (dataset.sensitivity !== 'public') this.#node.label = 'non-private';
      if (dataset.sensitivity === 'private' && !this.#mayMeasure(dataset, role)) return undefined;
    }
    return null;
  }

  /** Whether an input of a measure depends on private records without any bound, whatever else is waived. */
  #tellsUnbounded(role: 'synthetic' | 'model', what: string): boolean {
    const made = this.#sources.get(role)?.[0]?.node;
    if (made === undefined || !isShut(made)) return false;
    this.#faults.add(
      'SPEC_PRIVACY',
      `${what} ${made.id} derives from private records by training without DP or decontamination, which measures would tell of`,
      this.#at(role),
      'Take what was trained with a finite epsilon, on a base model that was not decontaminated against private data.',
    );
    return true;
  }

  #mayMeasure(dataset: PlanDataset, role: string): boolean {
    if (this.#resources.waivers.has('measures')) {
      this.#waive('measures');
      return this.#hasSize(dataset, role, 'Measures');
    }
    this.#faults.add(
      'SPEC_PRIVACY',
      `Measures against private dataset "${dataset.name}" are exact, and no epsilon bounds what they tell of it`,
      this.#at(role),
      'Measure against public records, or state waive: [{ name: measures, reason: ... }].',
    );
    return false;
  }

  /**
   * Training with canaries is charged as training without them is, for they are public texts that stand beside the
   * records. What it finds is exact, as measures are.
   */
  #audit(): null | undefined {
    const node = this.#node;
    const data = this.#usable('data');
    if (data === undefined || this.#tellsUnbounded('synthetic', 'The text of')) return undefined;
    if (data.files.test === undefined) {
      const message = `Dataset "${data.name}" has no test split, which its training records are told from`;
      this.#faults.add('SPEC_REFERENCE_KIND', message, this.#at('synthetic'), 'Add files.test to the dataset.');
      return undefined;
    }
    const training = this.#sources.get('generator')![0]!.node.params as FinetuneParams;
    const generation = this.#sources.get('synthetic')![0]!.node.params as GenerateParams;
    node.params = { ...(node.params as AuditParams), training, generation };
    if (data.sensitivity === 'public') return null;
    const { epsilon, steps, batch, clip } = training;
    if (!this.#train(data, { epsilon, steps, batch, clip, arithmetic: arithmeticOf(training.method) }, [])) {
      return undefined;
    }
    node.label = 'non-private';
    return data.sensitivity === 'benchmark' || this.#mayMeasure(data, 'synthetic') ? null : undefined;
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
    const shown = levelsOf([...this.#sources].filter(([role]) => role !== 'ceiling'));
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
    this.#node.waivers = waiversOf([...this.#sources.values()].flat().map(({ node }) => node));
    return null;
  }
}
