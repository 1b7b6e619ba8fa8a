/** @file The tokenizer inside a GGUF file. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md */

import {
  bytePairDefinition,
  sentencePieceDefinition,
  type SpecialIds,
  type TokenKind,
  type TokenizerDefinition,
  type VocabularyToken,
} from '../tokenizer/definitions.ts';
import { GgufFault, GgufFile, type GgufValue } from './gguf-file.ts';

/** By the numbers in `tokenizer.ggml.token_type`. */
const kinds: readonly (TokenKind | undefined)[] = [undefined, 'normal', 'unknown', 'control', 'user', 'unused', 'byte'];

/** @param file named in messages. @throws EpsilonflowError MODEL_INVALID when there is none, or of a kind that is unknown */
export function parseGgufTokenizer(file: string, metadata: ReadonlyMap<string, GgufValue>): TokenizerDefinition {
  const fault = (what: string): never => {
    throw new GgufFault(file, what);
  };
  const value = (key: string): GgufValue | undefined => metadata.get(`tokenizer.ggml.${key}`);
  const list = <T>(key: string, type: 'string' | 'number'): T[] => {
    const values = value(key);
    if (Array.isArray(values) && values.every((each) => typeof each === type)) return values as T[];
    return fault(`tokenizer.ggml.${key} is missing or no list of ${type}s`);
  };
  const texts = list<string>('tokens', 'string');
  const numbers = value('token_type') === undefined ? [] : list<number>('token_type', 'number');
  const tokens = texts.map((text, id): VocabularyToken => ({ text, kind: kinds[numbers[id] ?? 1] ?? 'normal' }));
  const id = (key: string): number | undefined => {
    const number = value(key);
    if (number === undefined) return undefined;
    return typeof number === 'number' && number < tokens.length ? number : fault(`tokenizer.ggml.${key} is no token`);
  };
  const special: SpecialIds = { bos: id('bos_token_id'), eos: id('eos_token_id') };
  const model = value('model');
  if (model === 'gpt2') {
    const splitting = value('pre');
    if (typeof splitting !== 'string') return fault('tokenizer.ggml.pre, how text is split into words, is missing');
    return bytePairDefinition(tokens, list<string>('merges', 'string'), splitting, special);
  }
  if (model === 'llama') {
    const scores = list<number>('scores', 'number');
    const scored = tokens.map((token, at) => ({ ...token, score: scores[at] ?? 0 }));
    return sentencePieceDefinition(scored, value('add_space_prefix') !== false, special);
  }
  return fault(`its tokenizer is ${JSON.stringify(model) ?? 'missing'}; gpt2 and llama are supported`);
}

/** The tokenizer of a file. @throws EpsilonflowError MODEL_INVALID */
export async function readGgufTokenizer(file: string): Promise<TokenizerDefinition> {
  const gguf = await GgufFile.open(file);
  try {
    return parseGgufTokenizer(file, gguf.metadata);
  } finally {
    await gguf.close();
  }
}
