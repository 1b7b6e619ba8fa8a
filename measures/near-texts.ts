/** @file Texts that are nearly the same: Jaccard similarity of their sets of character 5-grams (Broder 1997). */

const width = 5;

/** 32-bit FNV-1a over UTF-16 code units. */
function hash(text: string, from: number, to: number): number {
  let value = 0x811c9dc5;
  for (let index = from; index < to; index++) value = Math.imul(value ^ text.charCodeAt(index), 0x01000193);
  return value >>> 0;
}

/** The different shingles of a text, hashed, rising. A text shorter than a shingle is one. */
function shingles(text: string): Uint32Array {
  const found = new Set<number>();
  for (let start = 0; start + width <= text.length; start++) found.add(hash(text, start, start + width));
  if (found.size === 0) found.add(hash(text, 0, text.length));
  return Uint32Array.from(found).sort();
}

function overlap(a: Uint32Array, b: Uint32Array): number {
  let [i, j, shared] = [0, 0, 0];
  while (i < a.length && j < b.length) {
    const difference = a[i]! - b[j]!;
    if (difference === 0) shared += 1;
    if (difference <= 0) i += 1;
    if (difference >= 0) j += 1;
  }
  return shared;
}

/** Jaccard similarity of two texts' sets of shingles, in (0, 1] unless they share none. */
export function jaccard(a: string, b: string): number {
  const [left, right] = [shingles(a), shingles(b)];
  const shared = overlap(left, right);
  return shared / (left.length + right.length - shared);
}

/**
 * Finds all texts at least so similar, without comparing all pairs: of two such texts the rarest shingles of each, as
 * many as can be missing in the other and one more, have one in common (Chaudhuri, Ganti, Kaushik 2006; Bayardo, Ma,
 * Srikant 2007). Nothing is estimated; two shingles of one hash, 2^-32 by chance, count as the same.
 */
export class NearTextIndex {
  readonly #similarity: number;
  readonly #sets: Uint32Array[];
  readonly #frequency = new Map<number, number>();
  readonly #rows = new Map<number, number[]>();

  /** @param similarity in (0, 1] */
  constructor(texts: readonly string[], similarity: number) {
    this.#similarity = similarity;
    this.#sets = texts.map(shingles);
    for (const set of this.#sets) for (const shingle of set) this.#count(shingle);
    this.#sets.forEach((set, row) => {
      for (const shingle of this.#rarest(set)) {
        const rows = this.#rows.get(shingle);
        if (rows) rows.push(row);
        else this.#rows.set(shingle, [row]);
      }
    });
  }

  #count(shingle: number): void {
    this.#frequency.set(shingle, (this.#frequency.get(shingle) ?? 0) + 1);
  }

  #rarest(set: Uint32Array): Uint32Array {
    const frequency = (shingle: number): number => this.#frequency.get(shingle) ?? 0;
    const ordered = set.slice().sort((a, b) => frequency(a) - frequency(b) || a - b);
    return ordered.subarray(0, set.length - this.#least(set.length) + 1);
  }

  /** Shingles that a text at least so similar shares at least. Rounding never asks for one too many. */
  #least(size: number): number {
    return Math.max(1, Math.ceil(this.#similarity * size - 1e-9));
  }

  /** Numbers of the indexed texts that are at least so similar to a text, rising. */
  near(text: string): number[] {
    const set = shingles(text);
    const candidates = new Set<number>();
    for (const shingle of this.#rarest(set)) for (const row of this.#rows.get(shingle) ?? []) candidates.add(row);
    return [...candidates].filter((row) => this.#isNear(set, this.#sets[row]!)).sort((a, b) => a - b);
  }

  #isNear(a: Uint32Array, b: Uint32Array): boolean {
    if (Math.min(a.length, b.length) < this.#least(Math.max(a.length, b.length))) return false;
    const shared = overlap(a, b);
    return shared >= this.#similarity * (a.length + b.length - shared) - 1e-9;
  }
}
