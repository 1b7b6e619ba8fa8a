/** @file Self-BLEU (Zhu et al. 2018, Texygen): how much texts of one set repeat each other. */

import { GramNumbering, type GramRows } from './n-grams.ts';

const orders = [1, 2, 3, 4] as const;
/** What stands for no match at all of an order above one: smoothing method 1 of Chen and Cherry 2014. */
const noMatch = 0.1;

/** The most often that an n-gram stands in one text, in which text, and the most often in any other one. */
interface MostOften {
  most: Int32Array;
  in: Int32Array;
  elsewhere: Int32Array;
}

function countRow(row: Int32Array): Map<number, number> {
  const counts = new Map<number, number>();
  for (const gram of row) counts.set(gram, (counts.get(gram) ?? 0) + 1);
  return counts;
}

function mostOften(rows: GramRows, size: number): MostOften {
  const found = { most: new Int32Array(size), in: new Int32Array(size).fill(-1), elsewhere: new Int32Array(size) };
  rows.forEach((row, text) => {
    for (const [gram, count] of countRow(row)) {
      if (count > found.most[gram]!) {
        found.elsewhere[gram] = found.most[gram]!;
        found.most[gram] = count;
        found.in[gram] = text;
      } else if (count > found.elsewhere[gram]!) found.elsewhere[gram] = count;
    }
  });
  return found;
}

/** Modified n-gram precision of each text against all others (Papineni et al. 2002, section 2.1). */
function precisions(texts: readonly (readonly string[])[], order: number): { matched: Float64Array; of: Float64Array } {
  const numbering = new GramNumbering(order);
  const rows = texts.map((words) => numbering.row(words));
  const often = mostOften(rows, numbering.size);
  const matched = new Float64Array(texts.length);
  rows.forEach((row, text) => {
    for (const [gram, count] of countRow(row)) {
      matched[text]! += Math.min(count, often.in[gram] === text ? often.elsewhere[gram]! : often.most[gram]!);
    }
  });
  return { matched, of: Float64Array.from(rows, (row) => Math.max(1, row.length)) };
}

/** For each length the nearest one that another text has, the shorter of two. */
function nearestLengths(lengths: readonly number[]): Map<number, number> {
  const counts = countRow(Int32Array.from(lengths));
  const known = [...counts.keys()].sort((a, b) => a - b);
  return new Map(
    known.map((length) => {
      const others = known.filter((other) => other !== length || counts.get(length)! > 1);
      const nearest = others.reduce((best, other) =>
        Math.abs(other - length) < Math.abs(best - length) ? other : best,
      );
      return [length, nearest];
    }),
  );
}

/**
 * BLEU-4 of each text against all others as references, in [0, 1]; their mean is self-BLEU. It grows with the number of
 * texts: sets are compared at equal size.
 *
 * @param texts words of each, two texts or more
 */
export function selfBleu(texts: readonly (readonly string[])[]): Float64Array {
  if (texts.length < 2) throw new RangeError('self-BLEU needs two texts or more');
  const counted = orders.map((order) => precisions(texts, order));
  const lengths = texts.map(({ length }) => length);
  const nearest = nearestLengths(lengths);
  return Float64Array.from(lengths, (length, text) => {
    if (counted[0]!.matched[text] === 0) return 0;
    const logs = counted.map(({ matched, of }) => Math.log((matched[text]! || noMatch) / of[text]!));
    const brevity = Math.min(1, Math.exp(1 - nearest.get(length)! / length));
    return brevity * Math.exp(logs.reduce((sum, log) => sum + log, 0) / orders.length);
  });
}
