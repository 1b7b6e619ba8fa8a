/**
 * @file Decoders in GGUF files, of the architecture llama: its tensor names and metadata become those of this decoder.
 * The rows of queries and keys are stored for rotary pairs of neighbours there.
 */

import {
  attentionNorm,
  checkConfig,
  embeddingName,
  feedForwardNorm,
  finalNorm,
  headDim,
  headName,
  linearPath,
  type DecoderConfig,
  type LinearName,
} from '../decoder/config.ts';
import { GgufFault, GgufFile } from './gguf-file.ts';
import { toHalves } from './rotary-layout.ts';
import type { HostTensors } from './safetensors.ts';

const linearTensors: Partial<Record<LinearName, string>> = {
  q: 'attn_q',
  k: 'attn_k',
  v: 'attn_v',
  o: 'attn_output',
  gate: 'ffn_gate',
  up: 'ffn_up',
  down: 'ffn_down',
};

/** Names of this decoder by those of the file. */
function tensorNames(config: DecoderConfig): Map<string, string> {
  const names = new Map([
    ['token_embd.weight', embeddingName(config)],
    ['output_norm.weight', `${finalNorm(config)}.weight`],
    ['output.weight', headName],
  ]);
  for (let layer = 0; layer < config.layers; layer++) {
    names.set(`blk.${layer}.attn_norm.weight`, `${attentionNorm(config, layer)}.weight`);
    names.set(`blk.${layer}.ffn_norm.weight`, `${feedForwardNorm(config, layer)}.weight`);
    for (const [linear, tensor] of Object.entries(linearTensors)) {
      names.set(`blk.${layer}.${tensor}.weight`, `${linearPath(config, layer, linear as LinearName)}.weight`);
    }
  }
  return names;
}

function configOf(gguf: GgufFile): DecoderConfig {
  const fault = (what: string): never => {
    throw new GgufFault(gguf.file, what);
  };
  const architecture = gguf.metadata.get('general.architecture');
  if (architecture !== 'llama') fault(`its architecture is ${JSON.stringify(architecture)}; only llama is supported`);
  const number = (key: string, fallback?: number): number => {
    const value = gguf.metadata.get(`llama.${key}`) ?? fallback;
    return typeof value === 'number' ? value : fault(`llama.${key} is missing or not a number`);
  };
  const heads = number('attention.head_count');
  const dim = number('embedding_length');
  const scaling = gguf.metadata.get('llama.rope.scaling.type') ?? 'none';
  if (scaling !== 'none' || number('rope.scale_linear', 1) !== 1 || gguf.tensorNames.includes('rope_freqs.weight')) {
    fault('its rotary positions are scaled, which is not supported');
  }
  if (number('rope.dimension_count', dim / heads) !== dim / heads)
    fault('rotary positions of part of a head are not supported');
  if (number('expert_count', 0) !== 0) fault('mixtures of experts are not supported');
  const tokens = gguf.metadata.get('tokenizer.ggml.tokens');
  return checkConfig({
    family: 'llama',
    dim,
    layers: number('block_count'),
    heads,
    kvHeads: number('attention.head_count_kv', heads),
    hidden: number('feed_forward_length'),
    vocab: number('vocab_size', Array.isArray(tokens) ? tokens.length : undefined),
    context: number('context_length'),
    ropeTheta: number('rope.freq_base', 10000),
    rmsEps: number('attention.layer_norm_rms_epsilon'),
    tied: !gguf.tensorNames.includes('output.weight'),
  });
}

/**
 * The model of a GGUF file, dequantised to float32, under Hugging Face names.
 *
 * @throws EpsilonflowError MODEL_INVALID when the file is missing or damaged, or the model is of a kind that this
 *   decoder does not know.
 */
export async function readGguf(file: string): Promise<{ config: DecoderConfig; weights: HostTensors }> {
  const gguf = await GgufFile.open(file);
  try {
    const config = configOf(gguf);
    const names = tensorNames(config);
    const weights: HostTensors = {};
    for (const tensor of gguf.tensorNames) {
      const name = names.get(tensor);
      if (name === undefined) throw new GgufFault(file, `its tensor ${tensor} is unknown`);
      const { shape, values } = await gguf.tensor(tensor);
      const rotary = /\.attn_[qk]\.weight$/.test(tensor);
      weights[name] = { shape, values: rotary ? toHalves(values, shape[1] as number, headDim(config)) : values };
    }
    return { config, weights };
  } finally {
    await gguf.close();
  }
}
