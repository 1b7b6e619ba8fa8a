/** @file How two sets of texts differ as wholes, and how varied one is. */

import { distinctShare, jensenShannon, totalVariation } from './distributions.ts';
import { countsOf, GramNumbering, type GramRows } from './n-grams.ts';

const orders = [1, 2, 3] as const;
const gramDivergences = ['unigramDivergence', 'bigramDivergence', 'trigramDivergence'] as const;
const distinctShares = ['distinct1', 'distinct2', 'distinct3'] as const;

/** A set of texts, as far as counting goes. */
export interface CountedSet {
  /** By n from 1 to 3. */
  grams: readonly GramRows[];
  /** Words of each text, one number a row. */
  lengths: GramRows;
  /** Class index of each text, one number a row; null without classes. */
  labels: GramRows | null;
  size: number;
}

/** Counts texts of several sets with one numbering, so that the sets can be compared. */
export class SetCounter {
  readonly #numberings = orders.map((order) => new GramNumbering(order));
  readonly #classes: number;
  #longest = 0;

  /** @param classes number of classes; 0 without */
  constructor(classes: number) {
    this.#classes = classes;
  }

  count(texts: readonly (readonly string[])[], labels: readonly number[]): CountedSet {
    for (const { length } of texts) this.#longest = Math.max(this.#longest, length);
    return {
      grams: this.#numberings.map((numbering) => texts.map((words) => numbering.row(words))),
      lengths: texts.map(({ length }) => Int32Array.of(length)),
      labels: this.#classes === 0 ? null : labels.map((label) => Int32Array.of(label)),
      size: texts.length,
    };
  }

  /**
   * Divergences of a set from a reference and the variety of the set, of some rows of each. After all sets are counted.
   *
   * @param picks rows of the set and of the reference; all without
   */
  compare(
    set: CountedSet,
    reference: CountedSet,
    picks: { set?: Int32Array; reference?: Int32Array } = {},
  ): Record<string, number> {
    const figures: Record<string, number> = {};
    const both = (rows: GramRows, others: GramRows, size: number): [Float64Array, Float64Array] => [
      countsOf(rows, size, picks.set),
      countsOf(others, size, picks.reference),
    ];
    orders.forEach((_, place) => {
      const [p, q] = both(set.grams[place]!, reference.grams[place]!, this.#numberings[place]!.size);
      figures[gramDivergences[place]!] = jensenShannon(p, q);
      figures[distinctShares[place]!] = distinctShare(p);
    });
    figures['lengthDivergence'] = jensenShannon(...both(set.lengths, reference.lengths, this.#longest + 1));
    if (set.labels && reference.labels) {
      figures['labelDistance'] = totalVariation(...both(set.labels, reference.labels, this.#classes));
    }
    return figures;
  }
}
