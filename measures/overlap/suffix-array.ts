/**
 * @file Suffix arrays over integers by induced sorting, and the common prefixes of suffixes that are neighbours in them,
 * both in linear time. Beside text and result, sorting takes a byte a position, and an integer for each symbol.
 */

/** Called between passes, each of which is linear: may wait, and may throw to end the work. */
export type Breathe = () => Promise<void>;

/**
 * Starts of the suffixes of `text` in lexicographic order (SA-IS: Nong, Zhang, Chan 2009).
 *
 * @param text symbols from 0 to `symbols` - 1; the last one is 0 and stands nowhere else.
 */
export async function suffixArray(text: Int32Array, symbols: number, breathe: Breathe): Promise<Int32Array> {
  const order = new Int32Array(text.length);
  await sortSuffixes(text, order, symbols, breathe);
  return order;
}

/**
 * For each position the length of the common prefix of its suffix with the suffix before it in `order`; 0 for the first
 * (Kärkkäinen, Manzini, Puglisi 2009, by the array of predecessors).
 */
export async function commonPrefixes(text: Int32Array, order: Int32Array, breathe: Breathe): Promise<Int32Array> {
  // Holds each suffix' predecessor until its length takes the place.
  const lengths = new Int32Array(text.length);
  lengths[order[0]!] = -1;
  for (let rank = 1; rank < order.length; rank++) lengths[order[rank]!] = order[rank - 1]!;
  await breathe();
  let length = 0;
  for (let position = 0; position < text.length; position++) {
    const before = lengths[position]!;
    if (before < 0) length = 0;
    else {
      // Symbol 0 ends the text and is unlike all others, so neither suffix is left.
      while (text[position + length] === text[before + length]) length++;
    }
    lengths[position] = length;
    if (length > 0) length--;
  }
  return lengths;
}

async function sortSuffixes(text: Int32Array, order: Int32Array, symbols: number, breathe: Breathe): Promise<void> {
  if (text.length < 2) {
    order.fill(0);
    return;
  }
  const smaller = smallerThanNext(text);
  const buckets = new Int32Array(symbols);
  order.fill(-1);
  bucketEnds(text, buckets);
  for (let i = 1; i < text.length; i++) if (isLeftmost(smaller, i)) order[--buckets[text[i]!]!] = i;
  await breathe();
  await induce(text, order, smaller, buckets, breathe);

  const count = gatherLeftmost(order, smaller);
  const names = nameSubstrings(text, order, smaller, count);
  const reduced = order.subarray(text.length - count);
  const reducedOrder = order.subarray(0, count);
  await breathe();
  if (names < count) await sortSuffixes(reduced, reducedOrder, names, breathe);
  else for (let i = 0; i < count; i++) reducedOrder[reduced[i]!] = i;

  placeLeftmost(text, order, smaller, buckets, count);
  await breathe();
  await induce(text, order, smaller, buckets, breathe);
}

/** 1 where a suffix is smaller than the one that starts at the next position (type S), else 0 (type L). */
function smallerThanNext(text: Int32Array): Uint8Array {
  const smaller = new Uint8Array(text.length);
  smaller[text.length - 1] = 1;
  for (let i = text.length - 2; i >= 0; i--) {
    const symbol = text[i]!;
    const next = text[i + 1]!;
    smaller[i] = symbol < next || (symbol === next && smaller[i + 1] === 1) ? 1 : 0;
  }
  return smaller;
}

/** Whether a position is the leftmost of a stretch of type S. */
const isLeftmost = (smaller: Uint8Array, i: number): boolean => i > 0 && smaller[i] === 1 && smaller[i - 1] === 0;

function countSymbols(text: Int32Array, buckets: Int32Array): void {
  buckets.fill(0);
  for (let i = 0; i < text.length; i++) buckets[text[i]!]!++;
}

function bucketStarts(text: Int32Array, buckets: Int32Array): void {
  countSymbols(text, buckets);
  let sum = 0;
  for (let symbol = 0; symbol < buckets.length; symbol++) {
    const count = buckets[symbol]!;
    buckets[symbol] = sum;
    sum += count;
  }
}

function bucketEnds(text: Int32Array, buckets: Int32Array): void {
  countSymbols(text, buckets);
  let sum = 0;
  for (let symbol = 0; symbol < buckets.length; symbol++) buckets[symbol] = sum += buckets[symbol]!;
}

/** From the order of the leftmost S suffixes that of the L suffixes, and from it that of all S suffixes. */
async function induce(
  text: Int32Array,
  order: Int32Array,
  smaller: Uint8Array,
  buckets: Int32Array,
  breathe: Breathe,
): Promise<void> {
  bucketStarts(text, buckets);
  for (let rank = 0; rank < order.length; rank++) {
    const i = order[rank]! - 1;
    if (i >= 0 && smaller[i] === 0) order[buckets[text[i]!]!++] = i;
  }
  await breathe();
  bucketEnds(text, buckets);
  for (let rank = order.length - 1; rank >= 0; rank--) {
    const i = order[rank]! - 1;
    if (i >= 0 && smaller[i] === 1) order[--buckets[text[i]!]!] = i;
  }
  await breathe();
}

/** Moves the sorted leftmost S positions to the front; returns how many there are. */
function gatherLeftmost(order: Int32Array, smaller: Uint8Array): number {
  let count = 0;
  for (let rank = 0; rank < order.length; rank++) {
    if (isLeftmost(smaller, order[rank]!)) order[count++] = order[rank]!;
  }
  return count;
}

/** Writes the reduced text, names of the substrings between leftmost S positions, to the end; returns how many names. */
function nameSubstrings(text: Int32Array, order: Int32Array, smaller: Uint8Array, count: number): number {
  order.fill(-1, count);
  let names = 0;
  let previous = -1;
  for (let rank = 0; rank < count; rank++) {
    const position = order[rank]!;
    if (previous < 0 || !sameSubstring(text, smaller, previous, position)) names++;
    previous = position;
    // No two leftmost positions are neighbours.
    order[count + (position >> 1)] = names - 1;
  }
  for (let from = order.length - 1, to = order.length - 1; from >= count; from--) {
    if (order[from]! >= 0) order[to--] = order[from]!;
  }
  return names;
}

function sameSubstring(text: Int32Array, smaller: Uint8Array, a: number, b: number): boolean {
  for (let offset = 0; ; offset++) {
    // The last symbol stands nowhere else, so both indices stay inside.
    if (text[a + offset] !== text[b + offset] || smaller[a + offset] !== smaller[b + offset]) return false;
    if (offset > 0 && isLeftmost(smaller, a + offset)) return true;
  }
}

/** Puts the leftmost S positions, whose ranks are known now, to the ends of their buckets. */
function placeLeftmost(
  text: Int32Array,
  order: Int32Array,
  smaller: Uint8Array,
  buckets: Int32Array,
  count: number,
): void {
  const positions = order.subarray(text.length - count);
  for (let i = 1, next = 0; i < text.length; i++) if (isLeftmost(smaller, i)) positions[next++] = i;
  for (let rank = 0; rank < count; rank++) order[rank] = positions[order[rank]!]!;
  order.fill(-1, count);
  bucketEnds(text, buckets);
  for (let rank = count - 1; rank >= 0; rank--) {
    const position = order[rank]!;
    order[rank] = -1;
    order[--buckets[text[position]!]!] = position;
  }
}
