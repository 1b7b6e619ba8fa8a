/** @file Text to token ids and back, for any tokenizer in the form of `tokenizer.json`. */

import { PreTrainedTokenizer } from '@huggingface/transformers';

import { EpsilonflowError } from '../../schemas/errors.ts';
import { wordPattern } from './byte-alphabet.ts';
import type { TokenizerDefinition } from './definitions.ts';

export interface Tokenizer {
  /** Ids lie in [0, vocabularySize). */
  readonly vocabularySize: number;
  /** Id that a sequence starts with. */
  readonly bosId: number;
  /** Id that ends a text. */
  readonly eosId: number;
  /** Ids of a text, without bos and eos. An empty text gives none. */
  encode(text: string): Int32Array;
  /** Text of ids; special tokens are left out, invalid UTF-8 becomes U+FFFD. */
  decode(ids: Iterable<number>): string;
}

type Encode = (text: string) => number[];

/** Words kept with their ids; beyond it the cache starts anew, which bounds memory on text without repetition. */
const cachedWords = 1 << 16;

/**
 * A faster `encode` for tokenizers that split words as GPT-2 does and normalise nothing, null for others: ids of a text
 * are then the ids of its words in a row, and words repeat. Words go through a second tokenizer that adds no space.
 */
function wordwise(definition: Record<string, unknown>, config: object, whole: Encode): Encode | null {
  const part = (name: string): Record<string, unknown> | null => {
    return (definition[name] ?? null) as Record<string, unknown> | null;
  };
  const split = part('pre_tokenizer');
  const processor = part('post_processor');
  if (split?.['type'] !== 'ByteLevel' || split['use_regex'] === false || part('normalizer') !== null) return null;
  if (processor !== null && processor['type'] !== 'ByteLevel') return null;
  const words = new PreTrainedTokenizer(
    { ...definition, pre_tokenizer: { ...split, add_prefix_space: false } },
    config,
  );
  const added = ((definition['added_tokens'] as { content: string }[] | undefined) ?? []).map(({ content }) => content);
  const cache = new Map<string, number[]>();
  return (text) => {
    if (added.some((content) => text.includes(content))) return whole(text);
    const spaced = split['add_prefix_space'] === true && text !== '' && !text.startsWith(' ') ? ` ${text}` : text;
    const ids: number[] = [];
    for (const word of spaced.match(wordPattern) ?? []) {
      let known = cache.get(word);
      if (known === undefined) {
        known = words.encode(word, { add_special_tokens: false });
        if (cache.size >= cachedWords) cache.clear();
        cache.set(word, known);
      }
      for (const id of known) ids.push(id);
    }
    return ids;
  };
}

/**
 * @param path of the model, named in messages
 * @throws EpsilonflowError MODEL_INVALID when the tokenizer names no end-of-text token or is of a kind that is not known
 */
export function makeTokenizer(path: string, { definition, config }: TokenizerDefinition): Tokenizer {
  let tokenizer: PreTrainedTokenizer;
  try {
    tokenizer = new PreTrainedTokenizer(definition, config);
  } catch (cause) {
    throw new EpsilonflowError('MODEL_INVALID', `The tokenizer of ${path} cannot be loaded.`, { cause });
  }
  const eosId = tokenizer.eos_token_id as number | undefined;
  if (eosId === undefined) {
    throw new EpsilonflowError('MODEL_INVALID', `The tokenizer of ${path} names no end-of-text token.`, {
      hint: 'Set eos_token in tokenizer_config.json.',
    });
  }
  let vocabularySize = 0;
  for (const id of tokenizer.get_vocab().values()) vocabularySize = Math.max(vocabularySize, id + 1);
  const whole: Encode = (text) => tokenizer.encode(text, { add_special_tokens: false });
  const encode = wordwise(definition, config, whole) ?? whole;
  return {
    vocabularySize,
    eosId,
    bosId: (tokenizer.bos_token_id as number | undefined) ?? eosId,
    encode: (text) => Int32Array.from(encode(text)),
    decode(ids) {
      const list = Array.from(ids);
      if (list.length === 0) return '';
      return tokenizer.decode(list, { skip_special_tokens: true, clean_up_tokenization_spaces: false });
    },
  };
}
