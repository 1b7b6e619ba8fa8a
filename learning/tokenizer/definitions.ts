/**
 * @file Tokenizers of files without a `tokenizer.json`, brought into its form: byte-level BPE with the ways to split text
 * that GGUF files name, and SentencePiece BPE.
 */

import { EpsilonflowError } from '../../schemas/errors.ts';

/** `tokenizer.json` and `tokenizer_config.json`. */
export interface TokenizerDefinition {
  definition: Record<string, unknown>;
  config: Record<string, unknown>;
}

/** What a token is: one that text is split into, a mark that no text yields, a string that is always one token, a byte. */
export type TokenKind = 'normal' | 'unknown' | 'control' | 'user' | 'unused' | 'byte';

export interface VocabularyToken {
  text: string;
  kind: TokenKind;
}

export interface SpecialIds {
  bos: number | undefined;
  eos: number | undefined;
}

const byteLevel = (useRegex: boolean): Record<string, unknown> => ({
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: useRegex,
});

/** Words by a pattern; what lies between its matches are words too. */
const splitBy = (pattern: string): Record<string, unknown> => ({
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false },
    byteLevel(false),
  ],
});

/** The pattern of cl100k (tiktoken) with so many digits a word. */
const cl100k = (digits: string): string =>
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" +
  `${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

interface Splitting {
  preTokenizer: Record<string, unknown>;
  /** A word that is a token is taken whole. */
  ignoreMerges: boolean;
}

const gpt2: Splitting = { preTokenizer: byteLevel(true), ignoreMerges: false };
const singleDigits: Splitting = {
  preTokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Digits', individual_digits: true }, byteLevel(true)] },
  ignoreMerges: false,
};
const llama3: Splitting = { preTokenizer: splitBy(cl100k('\\p{N}{1,3}')), ignoreMerges: true };
const qwen2: Splitting = { preTokenizer: splitBy(cl100k('\\p{N}')), ignoreMerges: false };

/** By the name in `tokenizer.ggml.pre` (https://github.com/ggml-org/llama.cpp, src/llama-vocab.cpp). */
const splittings: Record<string, Splitting> = {
  'gpt-2': gpt2,
  gpt2,
  smollm: singleDigits,
  starcoder: singleDigits,
  refact: singleDigits,
  'command-r': singleDigits,
  'llama-bpe': llama3,
  llama3,
  'llama-v3': llama3,
  qwen2,
  'deepseek-r1-qwen': qwen2,
};

const addedTokens = (tokens: readonly VocabularyToken[]): Record<string, unknown>[] =>
  tokens.flatMap(({ text, kind }, id) =>
    kind === 'control' || kind === 'user'
      ? [
          {
            ...{ id, content: text, special: kind === 'control' },
            ...{ single_word: false, lstrip: false, rstrip: false, normalized: false },
          },
        ]
      : [],
  );

const vocabularyOf = (tokens: readonly VocabularyToken[]): Record<string, number> =>
  Object.fromEntries(tokens.map(({ text }, id) => [text, id]));

const configOf = (tokens: readonly VocabularyToken[], { bos, eos }: SpecialIds): Record<string, unknown> => ({
  ...(bos === undefined ? {} : { bos_token: tokens[bos]?.text }),
  ...(eos === undefined ? {} : { eos_token: tokens[eos]?.text }),
  clean_up_tokenization_spaces: false,
});

/**
 * Byte-level BPE (Radford et al. 2019).
 *
 * @param merges "left right", the first merged first
 * @param splitting how text is split into words, by its name in GGUF files
 * @throws EpsilonflowError MODEL_INVALID for a name that is not known
 */
export function bytePairDefinition(
  tokens: readonly VocabularyToken[],
  merges: readonly string[],
  splitting: string,
  special: SpecialIds,
): TokenizerDefinition {
  const known = splittings[splitting];
  if (known === undefined) {
    throw new EpsilonflowError('MODEL_INVALID', `The tokenizer splits text as "${splitting}", which is not known.`, {
      hint: `Known are ${Object.keys(splittings).join(', ')}. Or use the model's folder in Hugging Face layout.`,
    });
  }
  const definition = {
    version: '1.0',
    added_tokens: addedTokens(tokens),
    normalizer: null,
    pre_tokenizer: known.preTokenizer,
    post_processor: null,
    decoder: byteLevel(true),
    model: {
      type: 'BPE',
      vocab: vocabularyOf(tokens),
      merges,
      ...{ unk_token: null, byte_fallback: false, fuse_unk: false, ignore_merges: known.ignoreMerges },
    },
  };
  return { definition, config: configOf(tokens, special) };
}

export interface ScoredToken extends VocabularyToken {
  score: number;
}

/**
 * Merges that SentencePiece's BPE does not store: each token is made of any two others that it consists of, and the token
 * of the highest score is made first.
 */
function mergesOf(tokens: readonly ScoredToken[]): string[][] {
  const scores = new Map(tokens.filter(({ kind }) => kind === 'normal').map(({ text, score }) => [text, score]));
  const merges: { parts: [string, string]; score: number }[] = [];
  for (const [text, score] of scores) {
    const characters = Array.from(text);
    for (let at = 1; at < characters.length; at++) {
      const parts: [string, string] = [characters.slice(0, at).join(''), characters.slice(at).join('')];
      if (parts.every((part) => scores.has(part))) merges.push({ parts, score });
    }
  }
  return merges.sort((a, b) => b.score - a.score).map(({ parts }) => parts);
}

/**
 * SentencePiece's BPE (Kudo and Richardson 2018, arXiv:1808.06226): spaces are written ▁, unknown characters as bytes.
 *
 * @param spacePrefix a space is put before each text
 */
export function sentencePieceDefinition(
  tokens: readonly ScoredToken[],
  spacePrefix: boolean,
  special: SpecialIds,
): TokenizerDefinition {
  const replaceSpaces = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const decoders = [
    { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
    { type: 'ByteFallback' },
    { type: 'Fuse' },
    ...(spacePrefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
  ];
  const definition = {
    version: '1.0',
    added_tokens: addedTokens(tokens),
    normalizer: {
      type: 'Sequence',
      normalizers: [...(spacePrefix ? [{ type: 'Prepend', prepend: '▁' }] : []), replaceSpaces],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: { type: 'Sequence', decoders },
    model: {
      type: 'BPE',
      vocab: vocabularyOf(tokens),
      merges: mergesOf(tokens),
      unk_token: tokens.find(({ kind }) => kind === 'unknown')?.text ?? null,
      ...{ byte_fallback: true, fuse_unk: true, ignore_merges: false },
    },
  };
  return { definition, config: configOf(tokens, special) };
}
