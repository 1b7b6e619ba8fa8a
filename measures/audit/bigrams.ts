/** @file How likely a text is by what another set of texts says: a model of word pairs. */

/** Weights of pairs, of single words, and of any word alike. */
const shares = { pair: 0.6, word: 0.3, any: 0.1 };

const edge = '';

/** A model of word pairs with the weights above (Jelinek and Mercer 1980), of some texts in words. */
export class BigramModel {
  readonly #pairs = new Map<string, number>();
  /** How often a word has one after it, or is one: the ends of texts are words too. */
  readonly #befores = new Map<string, number>();
  readonly #words = new Map<string, number>();
  #total = 0;

  constructor(texts: readonly (readonly string[])[]) {
    for (const words of texts) for (const [before, word] of pairsOf(words)) this.#add(before, word);
  }

  /** Mean natural logarithm of the probability of its words and its end. */
  meanLogProbability(words: readonly string[]): number {
    const pairs = pairsOf(words);
    return pairs.reduce((sum, [before, word]) => sum + Math.log(this.#probability(before, word)), 0) / pairs.length;
  }

  #add(before: string, word: string): void {
    const pair = `${before} ${word}`;
    this.#pairs.set(pair, (this.#pairs.get(pair) ?? 0) + 1);
    this.#befores.set(before, (this.#befores.get(before) ?? 0) + 1);
    this.#words.set(word, (this.#words.get(word) ?? 0) + 1);
    this.#total++;
  }

  /** Where nothing is known of the word before, single words have the share of pairs too. */
  #probability(before: string, word: string): number {
    const single = (this.#words.get(word) ?? 0) / Math.max(1, this.#total);
    const seen = this.#befores.get(before) ?? 0;
    const pair = seen > 0 ? (this.#pairs.get(`${before} ${word}`) ?? 0) / seen : single;
    return shares.pair * pair + shares.word * single + shares.any / (this.#words.size + 1);
  }
}

const pairsOf = (words: readonly string[]): [before: string, word: string][] =>
  [...words, edge].map((word, place) => [words[place - 1] ?? edge, word]);
