/** @file Model folders in Hugging Face layout: `config.json` (LlamaForCausalLM) and `model.safetensors`. */

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { checkConfig, headName, type DecoderConfig } from '../decoder/config.ts';
import { checkWeights, type Weights } from '../decoder/weights.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import { readSafetensors, writeSafetensors, type HostTensors } from './safetensors.ts';

export interface ModelFolder {
  config: DecoderConfig;
  /** Tensors that the caller disposes. */
  weights: Record<string, Tensor>;
}

const invalid = (message: string, cause?: unknown): never => {
  throw new EpsilonflowError('MODEL_INVALID', message, { cause });
};

/** Values that would change the computation in ways that this decoder does not know. */
function refuseUnknown(file: string, json: Record<string, unknown>): void {
  const required: Record<string, unknown[]> = {
    model_type: ['llama'],
    hidden_act: ['silu', undefined],
    attention_bias: [false, undefined, null],
    mlp_bias: [false, undefined, null],
    rope_scaling: [undefined, null],
  };
  for (const [key, allowed] of Object.entries(required)) {
    if (!allowed.includes(json[key])) {
      invalid(
        `${file}: ${key} is ${JSON.stringify(json[key]) ?? 'missing'}; only ${allowed[0] ?? 'none'} is supported.`,
      );
    }
  }
}

export function parseConfig(file: string, json: Record<string, unknown>): DecoderConfig {
  refuseUnknown(file, json);
  const number = (key: string, fallback?: number): number => {
    const value = json[key] ?? fallback;
    return typeof value === 'number' ? value : invalid(`${file}: ${key} is missing or not a number.`);
  };
  const heads = number('num_attention_heads');
  const config = checkConfig({
    dim: number('hidden_size'),
    layers: number('num_hidden_layers'),
    heads,
    kvHeads: number('num_key_value_heads', heads),
    hidden: number('intermediate_size'),
    vocab: number('vocab_size'),
    context: number('max_position_embeddings'),
    ropeTheta: number('rope_theta', 10000),
    rmsEps: number('rms_norm_eps', 1e-6),
    tied: json['tie_word_embeddings'] === true,
  });
  const headDimension = number('head_dim', config.dim / heads);
  return headDimension === config.dim / heads
    ? config
    : invalid(`${file}: head_dim ${headDimension} is not supported.`);
}

export async function readConfig(directory: string): Promise<DecoderConfig> {
  const file = join(directory, 'config.json');
  const text = await readFile(file, 'utf8').catch((cause: unknown) => invalid(`${file} cannot be read.`, cause));
  try {
    return parseConfig(file, JSON.parse(text) as Record<string, unknown>);
  } catch (cause) {
    if (cause instanceof SyntaxError) return invalid(`${file} is not JSON.`, cause);
    throw cause;
  }
}

export const toTensors = (host: HostTensors): Record<string, Tensor> =>
  Object.fromEntries(Object.entries(host).map(([name, { shape, values }]) => [name, tf.tensor(values, shape)]));

export const toHost = (tensors: Weights): HostTensors =>
  Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => [
      name,
      { shape: [...tensor.shape], values: tensor.dataSync() as Float32Array },
    ]),
  );

/** @throws EpsilonflowError MODEL_INVALID when a file is missing, damaged, or the architecture is another. */
export async function readModelFolder(directory: string): Promise<ModelFolder> {
  const config = await readConfig(directory);
  const host = await readSafetensors(join(directory, 'model.safetensors'));
  if (config.tied) delete host[headName];
  const weights = toTensors(host);
  checkWeights(config, weights);
  return { config, weights };
}

export interface SpecialTokens {
  bosTokenId: number;
  eosTokenId: number;
}

/** `config.json` as `transformers` writes it. */
export function configJson(config: DecoderConfig, { bosTokenId, eosTokenId }: SpecialTokens): Record<string, unknown> {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: config.dim,
    intermediate_size: config.hidden,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.dim / config.heads,
    vocab_size: config.vocab,
    max_position_embeddings: config.context,
    rope_theta: config.ropeTheta,
    rope_scaling: null,
    rms_norm_eps: config.rmsEps,
    tie_word_embeddings: config.tied,
    hidden_act: 'silu',
    attention_bias: false,
    mlp_bias: false,
    bos_token_id: bosTokenId,
    eos_token_id: eosTokenId,
    torch_dtype: 'float32',
  };
}

/** Writes `config.json` and `model.safetensors`; tokenizer files are the caller's. */
export async function writeModelFolder(
  directory: string,
  config: DecoderConfig,
  weights: Weights,
  tokens: SpecialTokens,
): Promise<void> {
  checkWeights(config, weights);
  await writeFile(join(directory, 'config.json'), `${JSON.stringify(configJson(config, tokens), null, 2)}\n`);
  await writeSafetensors(join(directory, 'model.safetensors'), toHost(weights));
}
