/** @file `config.json` of Hugging Face folders: the decoders of it that are known here, and how one is written. */

import { EpsilonflowError } from '../../schemas/errors.ts';
import { checkConfig, type DecoderConfig, type Gpt2Config, type LlamaConfig } from '../decoder/config.ts';
import { jsonReader, type JsonReader } from './json-reader.ts';
import { parseRopeScaling, ropeScalingJson } from './rope-scaling-json.ts';

/** Values that would change the computation in ways that these decoders do not know; undefined: may be missing. */
type Allowed = Record<string, readonly unknown[]>;

function refuseOthers({ json, fault }: JsonReader, allowed: Allowed): void {
  for (const [key, values] of Object.entries(allowed)) {
    if (!values.includes(json[key])) {
      fault(`${key} is ${JSON.stringify(json[key])}; only ${JSON.stringify(values[0])} is supported`);
    }
  }
}

/** Biases by `model_type`: Qwen2 has those of queries, keys and values, the others what their configuration says. */
function biasesOf({ json }: JsonReader): LlamaConfig['biases'] {
  if (json['model_type'] === 'qwen2') return ['q', 'k', 'v'];
  return [
    ...(json['attention_bias'] === true ? (['q', 'k', 'v', 'o'] as const) : []),
    ...(json['mlp_bias'] === true ? (['gate', 'up', 'down'] as const) : []),
  ];
}

function parseLlama(reader: JsonReader): LlamaConfig {
  const { json, number, fault } = reader;
  refuseOthers(reader, {
    hidden_act: ['silu', undefined],
    attention_bias: [false, true, undefined, null],
    mlp_bias: [false, true, undefined, null],
    partial_rotary_factor: [1, undefined, null],
    use_sliding_window: [false, undefined, null],
  });
  const context = number('max_position_embeddings');
  if (json['model_type'] === 'mistral' && number('sliding_window', context) < context) {
    fault(`attention in a window of ${String(json['sliding_window'])} tokens is not supported`);
  }
  const heads = number('num_attention_heads');
  const dim = number('hidden_size');
  const width = number('head_dim', dim / heads);
  const { theta, scaling } = parseRopeScaling(reader, context);
  const biases = biasesOf(reader) ?? [];
  return checkConfig({
    family: 'llama',
    dim,
    layers: number('num_hidden_layers'),
    heads,
    kvHeads: number('num_key_value_heads', heads),
    ...(width === dim / heads ? {} : { headDim: width }),
    hidden: number('intermediate_size'),
    vocab: number('vocab_size'),
    context,
    ropeTheta: theta,
    ...(scaling === undefined ? {} : { ropeScaling: scaling }),
    rmsEps: number('rms_norm_eps', 1e-6),
    ...(biases.length === 0 ? {} : { biases }),
    tied: json['tie_word_embeddings'] === true,
  });
}

const activations: Record<string, Gpt2Config['activation']> = {
  gelu_new: 'gelu-tanh',
  gelu_pytorch_tanh: 'gelu-tanh',
  gelu: 'gelu',
};

function parseGpt2(reader: JsonReader): Gpt2Config {
  const { json, number, fault } = reader;
  refuseOthers(reader, {
    scale_attn_weights: [true, undefined],
    scale_attn_by_inverse_layer_idx: [false, undefined],
    add_cross_attention: [false, undefined],
  });
  const name = json['activation_function'] ?? 'gelu_new';
  const activation =
    activations[String(name)] ??
    fault(`activation_function is ${JSON.stringify(name)}; ${Object.keys(activations).join(', ')} are supported`);
  const dim = number('n_embd');
  const heads = number('n_head');
  return checkConfig({
    family: 'gpt2',
    dim,
    layers: number('n_layer'),
    heads,
    kvHeads: heads,
    hidden: number('n_inner', 4 * dim),
    vocab: number('vocab_size'),
    context: number('n_positions'),
    normEps: number('layer_norm_epsilon', 1e-5),
    activation,
    tied: json['tie_word_embeddings'] !== false,
  });
}

const parsers: Record<string, (reader: JsonReader) => DecoderConfig> = {
  llama: parseLlama,
  mistral: parseLlama,
  qwen2: parseLlama,
  gpt2: parseGpt2,
};

/** @param file named in messages. @throws EpsilonflowError MODEL_INVALID when a decoder of it is not known here. */
export function parseConfig(file: string, json: Record<string, unknown>): DecoderConfig {
  const reader = jsonReader(file, json);
  const parse = parsers[String(json['model_type'])];
  if (parse !== undefined) return parse(reader);
  const type = JSON.stringify(json['model_type']) ?? 'missing';
  return reader.fault(`model_type is ${type}; ${Object.keys(parsers).join(', ')} are supported`);
}

export interface SpecialTokens {
  bosTokenId: number;
  eosTokenId: number;
}

function llamaJson(config: LlamaConfig): Record<string, unknown> {
  const biases = config.biases ?? [];
  const has = (...names: NonNullable<LlamaConfig['biases']>): boolean => names.every((name) => biases.includes(name));
  const count = (attention: boolean, feedForward: boolean): number => (attention ? 4 : 0) + (feedForward ? 3 : 0);
  const [attention, feedForward] = [has('q', 'k', 'v', 'o'), has('gate', 'up', 'down')];
  const isQwen2 = biases.length === 3 && has('q', 'k', 'v');
  if (!isQwen2 && biases.length !== count(attention, feedForward)) {
    throw new EpsilonflowError('MODEL_INVALID', `No known model has biases on ${biases.join(', ')} only.`);
  }
  return {
    architectures: [isQwen2 ? 'Qwen2ForCausalLM' : 'LlamaForCausalLM'],
    model_type: isQwen2 ? 'qwen2' : 'llama',
    hidden_size: config.dim,
    intermediate_size: config.hidden,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headDim ?? config.dim / config.heads,
    vocab_size: config.vocab,
    max_position_embeddings: config.context,
    rope_theta: config.ropeTheta,
    rope_scaling: ropeScalingJson(config.ropeScaling),
    rms_norm_eps: config.rmsEps,
    tie_word_embeddings: config.tied,
    hidden_act: 'silu',
    ...(isQwen2 ? {} : { attention_bias: attention, mlp_bias: feedForward }),
  };
}

const gpt2Json = (config: Gpt2Config): Record<string, unknown> => ({
  architectures: ['GPT2LMHeadModel'],
  model_type: 'gpt2',
  n_embd: config.dim,
  n_inner: config.hidden,
  n_layer: config.layers,
  n_head: config.heads,
  n_positions: config.context,
  vocab_size: config.vocab,
  layer_norm_epsilon: config.normEps,
  activation_function: config.activation === 'gelu' ? 'gelu' : 'gelu_new',
  tie_word_embeddings: config.tied,
});

/** `config.json` as `transformers` writes it. */
export const configJson = (
  config: DecoderConfig,
  { bosTokenId, eosTokenId }: SpecialTokens,
): Record<string, unknown> => ({
  ...(config.family === 'llama' ? llamaJson(config) : gpt2Json(config)),
  bos_token_id: bosTokenId,
  eos_token_id: eosTokenId,
  torch_dtype: 'float32',
});
