/** @file Shape of a Llama-style decoder and the names and shapes of its weights. */

import { EpsilonflowError } from '../../schemas/errors.ts';

export interface DecoderConfig {
  /** Width of the residual stream. */
  dim: number;
  layers: number;
  heads: number;
  /** Key and value heads; `heads / kvHeads` query heads share one. */
  kvHeads: number;
  /** Width of the SwiGLU feed-forward. */
  hidden: number;
  vocab: number;
  /** Longest sequence, tokens. */
  context: number;
  ropeTheta: number;
  rmsEps: number;
  /** The output head is the embedding matrix. */
  tied: boolean;
}

/** Linear layers of a block by short name, with their place in the Hugging Face layout. */
export const linearModules = {
  q: 'self_attn.q_proj',
  k: 'self_attn.k_proj',
  v: 'self_attn.v_proj',
  o: 'self_attn.o_proj',
  gate: 'mlp.gate_proj',
  up: 'mlp.up_proj',
  down: 'mlp.down_proj',
} as const;
export type LinearName = keyof typeof linearModules;

export const linearNames = Object.keys(linearModules) as LinearName[];

export const embeddingName = 'model.embed_tokens.weight';
export const finalNormName = 'model.norm.weight';
export const headName = 'lm_head.weight';
/** `model.layers.2.self_attn.q_proj` */
export const linearPath = (layer: number, linear: LinearName): string =>
  `model.layers.${layer}.${linearModules[linear]}`;
export const attentionNormName = (layer: number): string => `model.layers.${layer}.input_layernorm.weight`;
export const feedForwardNormName = (layer: number): string => `model.layers.${layer}.post_attention_layernorm.weight`;

export const headDim = (config: DecoderConfig): number => config.dim / config.heads;

/** Checks that the numbers fit together. @throws EpsilonflowError MODEL_INVALID */
export function checkConfig(config: DecoderConfig): DecoderConfig {
  const faults: string[] = [];
  for (const name of ['dim', 'layers', 'heads', 'kvHeads', 'hidden', 'vocab', 'context'] as const) {
    if (!Number.isInteger(config[name]) || config[name] < 1) faults.push(`${name} must be a positive integer`);
  }
  if (config.dim % config.heads !== 0) faults.push(`dim ${config.dim} is not a multiple of heads ${config.heads}`);
  else if (headDim(config) % 2 !== 0) faults.push(`the width of a head, ${headDim(config)}, is odd`);
  if (config.heads % config.kvHeads !== 0) faults.push('heads is not a multiple of kvHeads');
  if (faults.length > 0)
    throw new EpsilonflowError('MODEL_INVALID', `The model's shape is wrong: ${faults.join('; ')}.`);
  return config;
}

/** [out, in] of a linear layer. */
export function linearShape(config: DecoderConfig, linear: LinearName): [number, number] {
  const { dim, hidden } = config;
  const kv = config.kvHeads * headDim(config);
  const shapes: Record<LinearName, [number, number]> = {
    q: [dim, dim],
    k: [kv, dim],
    v: [kv, dim],
    o: [dim, dim],
    gate: [hidden, dim],
    up: [hidden, dim],
    down: [dim, hidden],
  };
  return shapes[linear];
}

/** Every weight's name and shape, in file order. Matrices are [out, in], as in Hugging Face files. */
export function weightShapes(config: DecoderConfig): Record<string, number[]> {
  const shapes: Record<string, number[]> = { [embeddingName]: [config.vocab, config.dim] };
  for (let layer = 0; layer < config.layers; layer++) {
    shapes[attentionNormName(layer)] = [config.dim];
    shapes[feedForwardNormName(layer)] = [config.dim];
    for (const linear of linearNames) shapes[`${linearPath(layer, linear)}.weight`] = linearShape(config, linear);
  }
  shapes[finalNormName] = [config.dim];
  if (!config.tied) shapes[headName] = [config.vocab, config.dim];
  return shapes;
}

export const parameterCount = (config: DecoderConfig): number =>
  Object.values(weightShapes(config)).reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
