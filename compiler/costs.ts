/**
 * @file What an instance's time, and the bytes of its result, grow with: one function a step kind, next to `kinds.ts`.
 * What past runs took is scaled by it. Only what is public goes in: parameters, declared sizes, shapes of base models,
 * counts of public data. Pure.
 */

import { type LlamaConfig, parameterCount } from '../learning/decoder/config.ts';
import { lineageOf } from '../schemas/lineage.ts';
import type { Plan, PlanInput, PlanNode, StepKind } from '../schemas/plan.ts';
import type { FinetuneParams, PretrainParams } from '../schemas/step-params.ts';

export interface CostDrivers {
  /** Only instances of one group are compared: the kind, and what changes how it computes. */
  group: string;
  /** Time grows with it; only ratios mean something. */
  work: number;
  /** Bytes of the result grow with it. */
  volume: number;
}

/** Shape of a base model, as far as cost depends on it. */
export interface ModelSize {
  parameters: number;
  /** Width of the residual stream. */
  dim: number;
  layers: number;
}

/** What is public of the plan's inputs. */
export interface PublicSizes {
  /** Training records by dataset: declared, or counted where the data are public. */
  records: ReadonlyMap<string, number>;
  /** By name; null where the shape could not be read: then only runs with the same model are compared. */
  models: ReadonlyMap<string, ModelSize | null>;
}

interface Surroundings extends PublicSizes {
  plan: Plan;
}

type DriversOf<K extends StepKind> = (node: PlanNode<K>, around: Surroundings) => CostDrivers | null;

const drivers: { [K in StepKind]: DriversOf<K> } = {
  decontaminate: ({ inputs }, around) => {
    const corpus = rounds(1, inputs['corpus'], around);
    const against = rounds(1, inputs['against'], around);
    if (corpus === null || against === null) return null;
    return { group: 'decontaminate', work: corpus + against, volume: corpus };
  },

  pretrain: ({ params }) => {
    const { parameters } = pretrainedSize(params);
    return { group: 'pretrain', work: params.tokens * parameters, volume: parameters };
  },

  finetune: ({ params, inputs }, around) => {
    const base = baseModel(inputs['model'], around);
    const noised = params.epsilon === 'inf' ? '' : ' with DP';
    return {
      group: `finetune ${params.method.kind}${noised}${base.suffix}`,
      work: params.steps * params.batch * params.sequence * base.parameters,
      volume: trainedVolume(params, base),
    };
  },

  generate: ({ params, inputs }, around) => {
    const base = baseModel(inputs['model'], around);
    const tokens = params.count * params.maxTokens;
    return { group: `generate${base.suffix}`, work: tokens * base.parameters, volume: tokens };
  },

  'train-classifier': (node, around) => {
    const { params, inputs, privacy } = node;
    const isNoised = privacy?.mechanism.kind === 'poisson-gaussian';
    const records = isNoised ? params.dp.steps * params.dp.batch : rounds(params.epochs, inputs['train'], around);
    if (records === null) return null;
    const { suffix, each } = classifierSize(node, isNoised, around);
    const family = params.family === 'word-cnn' ? '' : ` ${params.family}`;
    return {
      group: `train-classifier${family}${isNoised ? ' with DP' : ''}${suffix}`,
      work: records * each,
      volume: 1,
    };
  },

  // Texts are compared in pairs, and rows are drawn again for the intervals.
  measure: ({ params }) => ({ group: 'measure', work: params.rows * (params.rows + params.resamples), volume: 1 }),

  // Training is most of it; canaries go through the model once or twice.
  audit: ({ params: { training, samples, generation, canaries, candidates, rows }, inputs }, around) => {
    const base = baseModel(inputs['model'], around);
    const trained = training.steps * training.batch * training.sequence;
    const scored = (canaries + candidates + 2 * rows) * training.sequence;
    return {
      group: `audit ${training.method.kind}${base.suffix}`,
      work: (trained + scored + samples * generation.maxTokens) * base.parameters,
      volume: 1,
    };
  },

  compare: () => ({ group: 'compare', work: 1, volume: 1 }),
};

/** What the instances of a plan grow with, by id; those of which too little is public are left out. */
export function costDrivers(plan: Plan, sizes: PublicSizes): Map<string, CostDrivers> {
  const around = { plan, ...sizes };
  return new Map(
    plan.nodes.flatMap((node): [string, CostDrivers][] => {
      const found = (drivers[node.kind] as DriversOf<StepKind>)(node, around);
      return found === null ? [] : [[node.id, found]];
    }),
  );
}

interface Base extends ModelSize {
  /** Tells instances apart whose models can't be compared by size. */
  suffix: string;
}

function baseModel(input: PlanInput | undefined, { plan, models }: Surroundings): Base {
  if (input !== undefined && 'nodes' in input) {
    const made = lineageOf(plan).node(input.nodes[0]!);
    if (made?.kind === 'pretrain') return { ...pretrainedSize(made.params as PretrainParams), suffix: '' };
  }
  if (input !== undefined && 'model' in input) {
    const size = models.get(input.model) ?? null;
    if (size !== null) return { ...size, suffix: '' };
    return { ...unknownSize, suffix: ` of ${plan.models[input.model]?.digest.slice(0, 12)}` };
  }
  return { ...unknownSize, suffix: ' of an unknown model' };
}

/** What a record costs a classifier. */
function classifierSize(
  { params, inputs }: PlanNode<'train-classifier'>,
  isNoised: boolean,
  around: Surroundings,
): { suffix: string; each: number } {
  switch (params.family) {
    case 'word-cnn': {
      const { embedding, filters } = isNoised ? params.dp : params;
      const widths = params.widths.reduce((sum, width) => sum + width, 0);
      return { suffix: '', each: params.words * embedding * filters * widths };
    }
    case 'linear':
      return { suffix: '', each: params.words * params.ngrams };
    case 'transformer': {
      const base = baseModel(inputs['model'], around);
      return { suffix: ` ${params.method.kind}${base.suffix}`, each: params.sequence * base.parameters };
    }
  }
}

const unknownSize: ModelSize = { parameters: 1, dim: 1, layers: 1 };

function pretrainedSize({ architecture, vocabulary }: PretrainParams): ModelSize {
  const { dim, layers } = architecture;
  const config: LlamaConfig = {
    family: 'llama',
    ...architecture,
    vocab: vocabulary,
    tied: true,
    ropeTheta: 1,
    rmsEps: 1,
  };
  return { parameters: parameterCount(config), dim, layers };
}

function trainedVolume({ method }: FinetuneParams, { parameters, dim, layers }: ModelSize): number {
  switch (method.kind) {
    case 'lora':
      return method.rank * method.targets.length * dim * layers;
    case 'prompt':
      return method.length * dim;
    case 'full':
      return parameters;
  }
}

/** Records seen in so many passes over what a classifier learns from; null where their number is told nowhere. */
function rounds(epochs: number, input: PlanInput | undefined, { plan, records }: Surroundings): number | null {
  if (input === undefined) return null;
  if ('dataset' in input) {
    const count = records.get(input.dataset);
    return count === undefined ? null : epochs * count;
  }
  const made = 'nodes' in input ? lineageOf(plan).node(input.nodes[0]!) : undefined;
  return made?.kind === 'generate' ? epochs * (made as PlanNode<'generate'>).params.count : null;
}
