/** @file Encoders of the BERT family in Hugging Face folders. What lies beyond the last hidden states is left out. */

import { join } from 'node:path';

import { PreTrainedTokenizer } from '@huggingface/transformers';

import { EpsilonflowError } from '../../schemas/errors.ts';
import { checkShapes } from '../decoder/weights.ts';
import { checkEncoderConfig, encoderShapes, type EncoderConfig } from '../encoder/config.ts';
import type { Tensor } from '../tensorflow.ts';
import { jsonReader, readJsonFile } from './json-reader.ts';
import { readFolderTensors, toTensors } from './model-folder.ts';
import type { HostTensors } from './safetensors.ts';

export interface Encoder {
  config: EncoderConfig;
  /** Under Hugging Face names, without the model's prefix. Tensors that the caller disposes. */
  weights: Record<string, Tensor>;
}

const activations: Record<string, EncoderConfig['activation']> = {
  gelu: 'gelu',
  gelu_new: 'gelu-tanh',
  gelu_pytorch_tanh: 'gelu-tanh',
};

function parseEncoderConfig(file: string, json: Record<string, unknown>): EncoderConfig {
  const { number, fault } = jsonReader(file, json);
  const type = json['model_type'];
  if (type !== 'bert' && type !== 'roberta') {
    fault(`model_type is ${JSON.stringify(type) ?? 'missing'}; bert and roberta are supported`);
  }
  const positions = json['position_embedding_type'] ?? 'absolute';
  if (positions !== 'absolute')
    fault(`position_embedding_type is ${JSON.stringify(positions)}; only "absolute" is supported`);
  if (json['is_decoder'] === true) fault('it is a decoder');
  const name = String(json['hidden_act'] ?? 'gelu');
  const activation =
    activations[name] ?? fault(`hidden_act is "${name}"; ${Object.keys(activations).join(', ')} are supported`);
  // RoBERTa counts positions from the row after that of padding.
  const firstPosition = type === 'roberta' ? number('pad_token_id', 1) + 1 : 0;
  return checkEncoderConfig({
    family: 'bert',
    dim: number('hidden_size'),
    layers: number('num_hidden_layers'),
    heads: number('num_attention_heads'),
    hidden: number('intermediate_size'),
    vocab: number('vocab_size'),
    context: number('max_position_embeddings') - firstPosition,
    firstPosition,
    segments: number('type_vocab_size', 2),
    normEps: number('layer_norm_eps', 1e-12),
    activation,
  });
}

/** Prefix of the encoder's names inside larger models. */
const prefix = /^(bert|roberta)\./;
/** Heads of larger models, and tables of older versions of `transformers`. */
const isBeyond = (name: string): boolean =>
  /^(pooler|cls|lm_head|classifier|qa_outputs)\./.test(name) || name === 'embeddings.position_ids';

/** A stored name without the model's prefix. The first files of BERT name the norms' parts otherwise. */
const nameOf = (stored: string): string =>
  stored
    .replace(prefix, '')
    .replace(/LayerNorm\.gamma$/, 'LayerNorm.weight')
    .replace(/LayerNorm\.beta$/, 'LayerNorm.bias');

/** @throws EpsilonflowError MODEL_INVALID when a file is missing or damaged, or the architecture is not known. */
export async function readEncoder(directory: string): Promise<Encoder> {
  const file = join(directory, 'config.json');
  const config = parseEncoderConfig(file, await readJsonFile(file));
  const shapes = encoderShapes(config);
  const weights: HostTensors = {};
  const tensors = await readFolderTensors(directory, (stored) => !isBeyond(nameOf(stored)));
  for (const [stored, tensor] of Object.entries(tensors)) {
    const name = nameOf(stored);
    if (!(name in shapes)) {
      throw new EpsilonflowError('MODEL_INVALID', `The weight ${stored} in ${directory} is unknown.`, {
        hint: 'The model is built otherwise than its config.json says, or than is supported.',
      });
    }
    weights[name] = tensor;
  }
  checkShapes(shapes, weights);
  return { config, weights: toTensors(weights) };
}

export interface EncoderTokenizer {
  /** Tokens that it knows. */
  vocabulary: number;
  /** Ids of a text between those that begin and end it, cut to `longest`. */
  encode(text: string, longest: number): Int32Array;
}

/** @throws EpsilonflowError MODEL_INVALID */
export async function readEncoderTokenizer(directory: string): Promise<EncoderTokenizer> {
  const [definition, settings] = await Promise.all(
    ['tokenizer.json', 'tokenizer_config.json'].map((name) => readJsonFile(join(directory, name))),
  );
  // What a folder says of cutting and padding is for others' batches.
  const tokenizer = new PreTrainedTokenizer({ ...definition, truncation: null, padding: null }, settings!);
  let vocabulary = 0;
  for (const id of tokenizer.get_vocab().values()) vocabulary = Math.max(vocabulary, id + 1);
  return {
    vocabulary,
    encode(text, longest) {
      const ids = tokenizer.encode(text);
      // The last one ends a text; it stays where a text is cut.
      return Int32Array.from(ids.length > longest ? [...ids.slice(0, longest - 1), ids.at(-1)!] : ids);
    },
  };
}
