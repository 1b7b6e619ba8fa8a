/**
 * @file Decoders in GGUF files, of the architectures llama and qwen2: their tensor names and metadata become those of
 * this decoder. The rows of llama's queries and keys are stored for rotary pairs of neighbours there.
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
  type RopeScaling,
} from '../decoder/config.ts';
import { GgufFault, GgufFile } from './gguf-file.ts';
import { yarnAttentionFactor } from './rope-scaling-json.ts';
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

/** Holds what the frequency of each rotary pair is divided by. */
const factorsTensor = 'rope_freqs.weight';

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
      for (const part of ['weight', 'bias']) {
        names.set(`blk.${layer}.${tensor}.${part}`, `${linearPath(config, layer, linear as LinearName)}.${part}`);
      }
    }
  }
  return names;
}

/** Metadata of the file's architecture, and errors that name the file. */
interface Reader {
  gguf: GgufFile;
  architecture: string;
  number(key: string, fallback?: number): number;
  fault(what: string): never;
}

function readerOf(gguf: GgufFile): Reader {
  const fault = (what: string): never => {
    throw new GgufFault(gguf.file, what);
  };
  const name = gguf.metadata.get('general.architecture');
  const architecture =
    name === 'llama' || name === 'qwen2'
      ? name
      : fault(`its architecture is ${JSON.stringify(name)}; llama and qwen2 are supported`);
  const number = (key: string, fallback?: number): number => {
    const value = gguf.metadata.get(`${architecture}.${key}`) ?? fallback;
    return typeof value === 'number' ? value : fault(`${architecture}.${key} is missing or not a number`);
  };
  return { gguf, architecture, number, fault };
}

/** What Llama 3.1 and 3.2 state in their configurations, of which GGUF files hold only what follows for each pair. */
const llama3 = { lowFrequency: 1, highFrequency: 4, originalContext: 8192 };

/** The scaling that divides the frequencies by these factors [width / 2]. */
function scalingOfFactors({ fault }: Reader, factors: Float32Array, theta: number): RopeScaling {
  const factor = Math.max(...factors);
  const { lowFrequency, highFrequency, originalContext } = llama3;
  const expected = (pair: number): number => {
    const turns = (originalContext / (2 * Math.PI)) * theta ** (-pair / factors.length);
    const kept = Math.min(1, Math.max(0, (turns - lowFrequency) / (highFrequency - lowFrequency)));
    return 1 / (kept + (1 - kept) / factor);
  };
  const differs = factors.some((value, pair) => Math.abs(value / expected(pair) - 1) > 1e-3);
  return differs
    ? fault('its rotary positions are scaled otherwise than those of Llama 3, which is not supported')
    : { kind: 'llama3', factor, ...llama3 };
}

async function scalingOf(reader: Reader, theta: number, context: number): Promise<RopeScaling | undefined> {
  const { gguf, architecture, number, fault } = reader;
  if (gguf.tensorNames.includes(factorsTensor)) {
    return scalingOfFactors(reader, (await gguf.tensor(factorsTensor)).values, theta);
  }
  const factor = number('rope.scaling.factor', number('rope.scale_linear', 1));
  const type = gguf.metadata.get(`${architecture}.rope.scaling.type`) ?? (factor === 1 ? 'none' : 'linear');
  switch (type) {
    case 'none':
      return undefined;
    case 'linear':
      return { kind: 'linear', factor };
    case 'yarn':
      return {
        kind: 'yarn',
        factor,
        originalContext: number('rope.scaling.original_context_length', context),
        betaFast: number('rope.scaling.yarn_beta_fast', 32),
        betaSlow: number('rope.scaling.yarn_beta_slow', 1),
        attentionFactor: number('rope.scaling.attn_factor', 1) * yarnAttentionFactor(factor),
        truncate: true,
      };
    default:
      return fault(`rope.scaling.type is ${JSON.stringify(type)}; none, linear and yarn are supported`);
  }
}

async function configOf(gguf: GgufFile): Promise<DecoderConfig> {
  const reader = readerOf(gguf);
  const { number, fault } = reader;
  const heads = number('attention.head_count');
  const dim = number('embedding_length');
  const width = number('attention.key_length', dim / heads);
  if (number('attention.value_length', width) !== width) fault('values of another width than keys are not supported');
  if (number('rope.dimension_count', width) !== width) fault('rotary positions of part of a head are not supported');
  if (number('expert_count', 0) !== 0) fault('mixtures of experts are not supported');
  const tokens = gguf.metadata.get('tokenizer.ggml.tokens');
  const context = number('context_length');
  const theta = number('rope.freq_base', 10000);
  const scaling = await scalingOf(reader, theta, context);
  const biases = (Object.entries(linearTensors) as [LinearName, string][])
    .filter(([, tensor]) => gguf.tensorNames.includes(`blk.0.${tensor}.bias`))
    .map(([linear]) => linear);
  return checkConfig({
    family: 'llama',
    dim,
    layers: number('block_count'),
    heads,
    kvHeads: number('attention.head_count_kv', heads),
    ...(width === dim / heads ? {} : { headDim: width }),
    hidden: number('feed_forward_length'),
    vocab: number('vocab_size', Array.isArray(tokens) ? tokens.length : undefined),
    context,
    ropeTheta: theta,
    ...(scaling === undefined ? {} : { ropeScaling: scaling }),
    rmsEps: number('attention.layer_norm_rms_epsilon'),
    ...(biases.length === 0 ? {} : { biases }),
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
    const config = await configOf(gguf);
    const names = tensorNames(config);
    // Only those of the architecture llama are stored for pairs of neighbours.
    const hasNeighbours = gguf.metadata.get('general.architecture') === 'llama';
    const weights: HostTensors = {};
    for (const tensor of gguf.tensorNames.filter((name) => name !== factorsTensor)) {
      const name = names.get(tensor);
      if (name === undefined) throw new GgufFault(file, `its tensor ${tensor} is unknown`);
      const { shape, values } = await gguf.tensor(tensor);
      const isRotary = hasNeighbours && /\.attn_[qk]\.(weight|bias)$/.test(tensor);
      weights[name] = { shape, values: isRotary ? toHalves(values, shape[1] ?? 1, headDim(config)) : values };
    }
    return { config, weights };
  } finally {
    await gguf.close();
  }
}
