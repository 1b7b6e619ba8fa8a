/** @file A pre-trained model under a classifier, a decoder or an encoder, and how it reads texts. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { TransformerParams } from '../../schemas/step-params.ts';
import type { ModelConfig } from '../decoder/config.ts';
import type { EncodedRecord } from '../dp/sequences.ts';
import { readEncoder, readEncoderTokenizer } from '../formats/encoder-folder.ts';
import { readModel, readTokenizer } from '../formats/model.ts';
import type { Tensor } from '../tensorflow.ts';

export interface BaseTransformer {
  config: ModelConfig;
  /** Tensors that the caller disposes. */
  weights: Record<string, Tensor>;
  /** Tokens that its tokenizer knows. */
  vocabulary: number;
  /** What a microbatch is filled up with. */
  padId: number;
  /** What is read of a text, at most `sequence` tokens. */
  read(text: string, sequence: number): Int32Array;
}

type Reading = Pick<TransformerParams, 'pooling' | 'sequence'>;

/** Whether a model folder holds an encoder of the BERT family. What can't be read is left to the readers of decoders. */
async function isEncoder(path: string): Promise<boolean> {
  try {
    const { model_type: type } = JSON.parse(await readFile(join(path, 'config.json'), 'utf8')) as Record<
      string,
      unknown
    >;
    return type === 'bert' || type === 'roberta';
  } catch {
    return false;
  }
}

/** @throws EpsilonflowError MODEL_INVALID */
export async function readTransformer(path: string): Promise<BaseTransformer> {
  if (await isEncoder(path)) {
    const { encode, vocabulary } = await readEncoderTokenizer(path);
    // No token has this number: padding must be told from tokens.
    return { ...(await readEncoder(path)), vocabulary, padId: -1, read: encode };
  }
  const { config, weights } = await readModel(path);
  const tokenizer = await readTokenizer(path);
  const { bosId, eosId, vocabularySize } = tokenizer;
  return {
    ...{ config, weights, vocabulary: vocabularySize, padId: eosId },
    read: (text, sequence) => Int32Array.from([bosId, ...tokenizer.encode(text).slice(0, sequence - 2), eosId]),
  };
}

/**
 * A text for a microbatch, whose loss weights are those of its hidden states. The last token is read by none: where
 * tokens are predicted it is the last one's target.
 */
export function readRecord(
  { config, read, padId }: Pick<BaseTransformer, 'config' | 'read' | 'padId'>,
  { text, label }: { text: string; label: number },
  { pooling, sequence }: Reading,
): EncodedRecord {
  const ids = read(text, sequence);
  const tokens = Int32Array.from([...ids, padId]);
  const isOfEncoder = config.family === 'bert';
  if (pooling === 'token') {
    const place = isOfEncoder ? 1 : ids.length;
    return { tokens, given: place, end: place, divisor: 1, label };
  }
  // The start token of a decoder has seen nothing.
  const given = isOfEncoder ? 1 : 2;
  return { tokens, given, divisor: ids.length + 1 - given, label };
}
