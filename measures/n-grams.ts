/** @file n-grams of sets of texts, numbered alike in all sets, so that sets can be compared and resampled by counting. */

/** One row a text: the numbers of its n-grams in order. */
export type GramRows = readonly Int32Array[];

/** Numbers n-grams as they come. */
export class GramNumbering {
  readonly #n: number;
  readonly #numbers = new Map<string, number>();

  constructor(n: number) {
    this.#n = n;
  }

  /** How many different n-grams have come so far. */
  get size(): number {
    return this.#numbers.size;
  }

  /** @param words of the text; a text of fewer than n words has no n-gram. */
  row(words: readonly string[]): Int32Array {
    const row = new Int32Array(Math.max(0, words.length - this.#n + 1));
    for (let start = 0; start < row.length; start++) {
      const gram = this.#n === 1 ? words[start]! : words.slice(start, start + this.#n).join(' ');
      let number = this.#numbers.get(gram);
      if (number === undefined) this.#numbers.set(gram, (number = this.#numbers.size));
      row[start] = number;
    }
    return row;
  }
}

/**
 * How often each number stands in the picked rows.
 *
 * @param size numbers lie in [0, size); @param picks indices of rows, one may be picked several times
 */
export function countsOf(rows: GramRows, size: number, picks: Iterable<number> = rows.keys()): Float64Array {
  const counts = new Float64Array(size);
  for (const pick of picks) for (const number of rows[pick]!) counts[number]! += 1;
  return counts;
}
