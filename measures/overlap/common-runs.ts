/**
 * @file Runs of tokens that two collections of texts have in common. A suffix array over both, in linear time: what a
 * suffix of one side shares with the other side it shares with a neighbour there in lexicographic order. At most 20 bytes
 * of memory a token, beside the texts and the distinct tokens.
 */

import { type Breathe, commonPrefixes, suffixArray } from './suffix-array.ts';
import { TokenNumbers, TokenReader, widened } from './tokens.ts';

export interface CommonRun {
  /** Index of the text. */
  text: number;
  /** Tokens of the text, the last one excluded. */
  from: number;
  to: number;
  /** Index of a text of the other side that has the run too. */
  other: number;
}

export interface CommonRuns {
  /**
   * Every maximal run of the corpus' texts that a reference has too: no longer one around it is common. In the order
   * of the texts, and of their tokens.
   */
  inCorpus(): Generator<CommonRun>;
  /** The same of the references. */
  inReferences(): Generator<CommonRun>;
  /** Tokens of the corpus. */
  tokens: number;
}

const mostPositions = 2 ** 31 - 2;

/** Symbols that are no token: the end of all, and what parts stretches. */
const end = 0;
const parting = 1;
const firstToken = 2;

/**
 * Finds all runs of at least `least` tokens (see `TokenReader`) that texts of both sides have. A run lies in one text.
 *
 * @throws RangeError beyond 2^31 tokens.
 */
export async function commonRuns(
  corpus: readonly string[],
  references: readonly string[],
  least: number,
  breathe: Breathe,
): Promise<CommonRuns> {
  const numbers = new TokenNumbers();
  const stretches = new Stretches(least);
  await stretches.add(references, (token) => numbers.number(token), breathe);
  const split = stretches.count;
  // Of the corpus only stretches of tokens that the references have can hold a run: the rest isn't sorted.
  const tokens = await stretches.add(corpus, (token) => numbers.find(token), breathe);
  if (split === 0 || stretches.count === split) {
    const none = function* (): Generator<CommonRun> {};
    return { inCorpus: none, inReferences: none, tokens };
  }
  const matches = await longestMatches(stretches.symbols(), stretches.from[split]!, firstToken + numbers.size, breathe);
  return {
    inCorpus: () => maximalRuns(stretches, split, stretches.count, matches, least),
    inReferences: () => maximalRuns(stretches, 0, split, matches, least),
    tokens,
  };
}

/** Stretches of known tokens, long enough to hold a run, one after the other in an array of symbols. */
class Stretches {
  count = 0;
  /** By stretch: where it begins in the symbols, its text, and which token of the text is its first one. */
  from = new Int32Array(1 << 8);
  text = new Int32Array(1 << 8);
  token = new Int32Array(1 << 8);
  readonly #least: number;
  #symbols = new Int32Array(1 << 12);
  #length = 0;

  constructor(least: number) {
    this.#least = least;
  }

  /** Adds the texts of a side; returns how many tokens they have. @param numberOf -1: of no interest, parts stretches. */
  async add(texts: readonly string[], numberOf: (token: TokenReader) => number, breathe: Breathe): Promise<number> {
    const reader = new TokenReader();
    let tokens = 0;
    let read = 0;
    for (const [index, text] of texts.entries()) {
      let begin = this.#length;
      let place = 0;
      reader.open(text);
      for (; reader.next(); place++) {
        const number = numberOf(reader);
        if (number >= 0) this.#push(firstToken + number);
        else begin = this.#part(begin, index, place);
      }
      this.#part(begin, index, place);
      tokens += place;
      read += text.length + 1;
      if (read > charactersBetweenBreaths) {
        read = 0;
        await breathe();
      }
    }
    return tokens;
  }

  /** All symbols, the end among them. */
  symbols(): Int32Array {
    this.#push(end);
    return this.#symbols.subarray(0, this.#length);
  }

  /** Where a stretch ends: its parting symbol. */
  endOf(stretch: number): number {
    return stretch + 1 < this.count ? this.from[stretch + 1]! - 1 : this.#length - 2;
  }

  /** The stretch that a position is in. */
  at(position: number): number {
    let [low, high] = [0, this.count];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.from[middle]! <= position) low = middle;
      else high = middle;
    }
    return low;
  }

  #push(symbol: number): void {
    if (this.#length === this.#symbols.length) {
      if (this.#length >= mostPositions) throw new RangeError('More than 2^31 tokens are too many for one search.');
      // Large ones by a quarter: what is not used counts too.
      const more = Math.min(this.#length < 1 << 22 ? 2 * this.#length : Math.ceil(1.25 * this.#length), mostPositions);
      this.#symbols = widened(this.#symbols, more);
    }
    this.#symbols[this.#length++] = symbol;
  }

  /** Ends the stretch before token `place` of a text, and forgets it when it is too short. Returns where the next begins. */
  #part(begin: number, text: number, place: number): number {
    const length = this.#length - begin;
    if (length < this.#least || length === 0) {
      this.#length = begin;
      return begin;
    }
    this.#push(parting);
    if (this.count === this.from.length) {
      this.from = widened(this.from, 2 * this.count);
      this.text = widened(this.text, 2 * this.count);
      this.token = widened(this.token, 2 * this.count);
    }
    this.from[this.count] = begin;
    this.text[this.count] = text;
    this.token[this.count] = place - length;
    this.count++;
    return this.#length;
  }
}

const charactersBetweenBreaths = 1 << 22;

interface Matches {
  /** By position: how long a prefix of its suffix is in the other side. It may reach over the end of the stretch. */
  length: Int32Array;
  /** Where it is there; -1 when nowhere. */
  place: Int32Array;
}

/**
 * Matching statistics of each side against the other: of all suffixes of the other side the nearest before and the
 * nearest after one in lexicographic order share most with it.
 *
 * @param symbols is overwritten. @param split where the second side begins
 */
async function longestMatches(
  symbols: Int32Array,
  split: number,
  distinct: number,
  breathe: Breathe,
): Promise<Matches> {
  const order = await suffixArray(symbols, distinct, breathe);
  const shared = await commonPrefixes(symbols, order, breathe);
  await breathe();
  const matches = { length: new Int32Array(symbols.length), place: symbols.fill(-1) };
  const nearest = new NearestSuffixes(matches, split);
  for (let rank = 0; rank < order.length; rank++) {
    const position = order[rank]!;
    nearest.move(shared[position]!);
    nearest.visit(position);
  }
  await breathe();
  nearest.reset();
  for (let rank = order.length - 1; rank >= 0; rank--) {
    const position = order[rank]!;
    nearest.visit(position);
    nearest.move(shared[position]!);
  }
  await breathe();
  return matches;
}

/** A walk through the suffixes in order: the last one of each side, and what it shares with where the walk is. */
class NearestSuffixes {
  readonly #matches: Matches;
  readonly #split: number;
  #first = { position: -1, shared: 0 };
  #second = { position: -1, shared: 0 };

  constructor(matches: Matches, split: number) {
    this.#matches = matches;
    this.#split = split;
  }

  reset(): void {
    this.#first = { position: -1, shared: 0 };
    this.#second = { position: -1, shared: 0 };
  }

  /** On to a neighbour that shares so much with the last suffix. */
  move(shared: number): void {
    if (shared < this.#first.shared) this.#first.shared = shared;
    if (shared < this.#second.shared) this.#second.shared = shared;
  }

  visit(position: number): void {
    const [own, other] = position < this.#split ? [this.#first, this.#second] : [this.#second, this.#first];
    const { length, place } = this.#matches;
    if (other.shared > length[position]!) {
      length[position] = other.shared;
      place[position] = other.position;
    }
    own.position = position;
    own.shared = length.length;
  }
}

function* maximalRuns(
  stretches: Stretches,
  first: number,
  last: number,
  { length, place }: Matches,
  least: number,
): Generator<CommonRun> {
  for (let stretch = first; stretch < last; stretch++) {
    const begin = stretches.from[stretch]!;
    const limit = stretches.endOf(stretch);
    const shift = stretches.token[stretch]! - begin;
    // One that ends where an earlier one does lies in it.
    let reached = begin;
    for (let position = begin; position + least <= limit; position++) {
      const to = Math.min(position + length[position]!, limit);
      if (to - position < least || to <= reached) continue;
      reached = to;
      const other = stretches.text[stretches.at(place[position]!)]!;
      yield { text: stretches.text[stretch]!, from: position + shift, to: to + shift, other };
    }
  }
}
