/** @file Shapes of decoders of the Llama and GPT-2 families, and the names and shapes of their weights. */

import { EpsilonflowError } from '../../schemas/errors.ts';
import {
  encoderShapes,
  layerPath,
  positionTable,
  segmentTable,
  wordTable,
  type EncoderConfig,
} from '../encoder/config.ts';

interface Shape {
  /** Width of the residual stream. */
  dim: number;
  layers: number;
  heads: number;
  /** Key and value heads; `heads / kvHeads` query heads share one. */
  kvHeads: number;
  /** Width of the feed-forward. */
  hidden: number;
  vocab: number;
  /** Longest sequence, tokens. */
  context: number;
  /** The output head is the embedding matrix. */
  tied: boolean;
}

/**
 * How rotary positions reach beyond the context that a model was trained on first.
 *
 * `linear` (Chen et al. 2023, arXiv:2306.15595) divides all frequencies by the factor; `llama3` (Grattafiori et al. 2024,
 * arXiv:2407.21783) those of wavelengths above originalContext / lowFrequency, none below originalContext / highFrequency,
 * and interpolates between; `yarn` (Peng et al. 2023, arXiv:2309.00071) interpolates between pairs that turn betaSlow and
 * betaFast times within the original context, and multiplies cosines and sines by the attention factor.
 */
export type RopeScaling =
  | { kind: 'linear'; factor: number }
  | { kind: 'llama3'; factor: number; lowFrequency: number; highFrequency: number; originalContext: number }
  | {
      kind: 'yarn';
      factor: number;
      originalContext: number;
      betaFast: number;
      betaSlow: number;
      attentionFactor: number;
      /** The ends of the ramp are whole pairs. */
      truncate: boolean;
    };

/** RMSNorm, rotary positions, grouped-query attention, SwiGLU: Llama, Mistral, Qwen2 and what is built like them. */
export interface LlamaConfig extends Shape {
  family: 'llama';
  /** Width of a head; dim / heads unless given. */
  headDim?: number;
  ropeTheta: number;
  ropeScaling?: RopeScaling;
  rmsEps: number;
  /** Linear layers that add a bias; none unless given. */
  biases?: readonly LinearName[];
}

/** LayerNorm, learned positions, fused queries, keys and values, GELU, biases everywhere (Radford et al. 2019). */
export interface Gpt2Config extends Shape {
  family: 'gpt2';
  normEps: number;
  /** `gelu` is exact, `gelu-tanh` its approximation (Hendrycks and Gimpel 2016, arXiv:1606.08415). */
  activation: 'gelu' | 'gelu-tanh';
}

export type DecoderConfig = LlamaConfig | Gpt2Config;

/** What can be fine-tuned: decoders, and encoders of the BERT family. */
export type ModelConfig = DecoderConfig | EncoderConfig;

export type LinearName = 'q' | 'k' | 'v' | 'qkv' | 'o' | 'gate' | 'up' | 'down';

/** Linear layers of a block by short name, with their place in the Hugging Face layout, in file order. */
const linearModules: Record<ModelConfig['family'], Partial<Record<LinearName, string>>> = {
  llama: {
    q: 'self_attn.q_proj',
    k: 'self_attn.k_proj',
    v: 'self_attn.v_proj',
    o: 'self_attn.o_proj',
    gate: 'mlp.gate_proj',
    up: 'mlp.up_proj',
    down: 'mlp.down_proj',
  },
  gpt2: { qkv: 'attn.c_attn', o: 'attn.c_proj', up: 'mlp.c_fc', down: 'mlp.c_proj' },
  bert: {
    q: 'attention.self.query',
    k: 'attention.self.key',
    v: 'attention.self.value',
    o: 'attention.output.dense',
    up: 'intermediate.dense',
    down: 'output.dense',
  },
};

type Family = Pick<ModelConfig, 'family'>;

export const linearNames = ({ family }: Family): LinearName[] => Object.keys(linearModules[family]) as LinearName[];

/** `self_attn.q_proj` */
export function linearModule({ family }: Family, linear: LinearName): string {
  const module = linearModules[family][linear];
  if (module !== undefined) return module;
  throw new EpsilonflowError('MODEL_INVALID', `Models of the ${family} family have no linear layer "${linear}".`, {
    hint: `They have ${linearNames({ family }).join(', ')}.`,
  });
}

const isLlama = ({ family }: Family): boolean => family === 'llama';

export const blockPath = (config: Family, layer: number): string =>
  isLlama(config) ? `model.layers.${layer}` : `transformer.h.${layer}`;
/** `model.layers.2.self_attn.q_proj` */
export const linearPath = (config: Family, layer: number, linear: LinearName): string =>
  config.family === 'bert'
    ? layerPath(layer, linearModule(config, linear))
    : `${blockPath(config, layer)}.${linearModule(config, linear)}`;
export const embeddingName = (config: Family): string =>
  isLlama(config) ? 'model.embed_tokens.weight' : 'transformer.wte.weight';
/** Of learned positions. */
export const positionsName = 'transformer.wpe.weight';
export const headName = 'lm_head.weight';
export const attentionNorm = (config: Family, layer: number): string =>
  `${blockPath(config, layer)}.${isLlama(config) ? 'input_layernorm' : 'ln_1'}`;
export const feedForwardNorm = (config: Family, layer: number): string =>
  `${blockPath(config, layer)}.${isLlama(config) ? 'post_attention_layernorm' : 'ln_2'}`;
export const finalNorm = (config: Family): string => (isLlama(config) ? 'model.norm' : 'transformer.ln_f');

/** Tables of which a model reads rows, at its bottom. */
export const tableNames = (config: Family): string[] =>
  config.family === 'bert' ? [wordTable, positionTable, segmentTable] : [embeddingName(config), positionsName];

export const headDim = (config: ModelConfig): number =>
  (config.family === 'llama' ? config.headDim : undefined) ?? config.dim / config.heads;

/** Whether a linear layer adds a bias. */
export const hasBias = (config: DecoderConfig, linear: LinearName): boolean =>
  config.family === 'gpt2' || (config.biases ?? []).includes(linear);

/** Checks that the numbers fit together. @throws EpsilonflowError MODEL_INVALID */
export function checkConfig<C extends DecoderConfig>(config: C): C {
  const faults: string[] = [];
  for (const name of ['dim', 'layers', 'heads', 'kvHeads', 'hidden', 'vocab', 'context'] as const) {
    if (!Number.isInteger(config[name]) || config[name] < 1) faults.push(`${name} must be a positive integer`);
  }
  const width = headDim(config);
  if (!Number.isInteger(width)) faults.push(`dim ${config.dim} is not a multiple of heads ${config.heads}`);
  else if (isLlama(config) && width % 2 !== 0) faults.push(`the width of a head, ${width}, is odd`);
  if (config.heads % config.kvHeads !== 0) faults.push('heads is not a multiple of kvHeads');
  if (faults.length === 0) return config;
  throw new EpsilonflowError('MODEL_INVALID', `The model's shape is wrong: ${faults.join('; ')}.`, {
    hint: 'Correct the numbers; those of a fetched model say that its file is damaged, or of a kind that is not supported.',
  });
}

/** [out, in] of a linear layer. */
export function linearShape(config: ModelConfig, linear: LinearName): [number, number] {
  const { dim, hidden, heads } = config;
  const kvHeads = config.family === 'bert' ? heads : config.kvHeads;
  const [all, kv] = [heads, kvHeads].map((heads) => heads * headDim(config)) as [number, number];
  const shapes: Record<LinearName, [number, number]> = {
    q: [all, dim],
    k: [kv, dim],
    v: [kv, dim],
    qkv: [all + 2 * kv, dim],
    o: [dim, all],
    gate: [hidden, dim],
    up: [hidden, dim],
    down: [dim, hidden],
  };
  return shapes[linear];
}

/**
 * Every weight's name and shape, in file order. Matrices are [out, in], also those that Hugging Face files of GPT-2 hold
 * the other way round.
 */
export function weightShapes(config: ModelConfig): Record<string, number[]> {
  if (config.family === 'bert') return encoderShapes(config);
  const { dim } = config;
  const shapes: Record<string, number[]> = { [embeddingName(config)]: [config.vocab, dim] };
  const addNorm = (path: string): void => {
    shapes[`${path}.weight`] = [dim];
    if (config.family === 'gpt2') shapes[`${path}.bias`] = [dim];
  };
  if (config.family === 'gpt2') shapes[positionsName] = [config.context, dim];
  for (let layer = 0; layer < config.layers; layer++) {
    addNorm(attentionNorm(config, layer));
    addNorm(feedForwardNorm(config, layer));
    for (const linear of linearNames(config)) {
      const [outputs, inputs] = linearShape(config, linear);
      shapes[`${linearPath(config, layer, linear)}.weight`] = [outputs, inputs];
      if (hasBias(config, linear)) shapes[`${linearPath(config, layer, linear)}.bias`] = [outputs];
    }
  }
  addNorm(finalNorm(config));
  if (!config.tied) shapes[headName] = [config.vocab, dim];
  return shapes;
}

export const parameterCount = (config: ModelConfig): number =>
  Object.values(weightShapes(config)).reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
