/** @file What the threads that clip gradients share with training. Loads no TensorFlow, so that threads can import it. */

import { type WordCnnShape, wordCnnLength, wordCnnSizes } from './parameters.ts';
import type { EncodedTexts } from './words.ts';

/** All arrays lie in shared memory. */
export interface ClippingMemory {
  shape: WordCnnShape;
  clipNorm: number;
  weights: Float32Array;
  /** [buckets, rows] products of all words with the filters. */
  products: Float32Array;
  texts: EncodedTexts;
  labels: Int32Array;
  /** [texts] the batch, from the first place. */
  drawn: Int32Array;
  /** [texts] losses of the batch, in its order. */
  losses: Float64Array;
  /** [2] how many texts of the batch were handed out, and how many are done. */
  counters: Int32Array;
}

/** Places in `counters`. */
export const handedOut = 0;
export const done = 1;

/** What a thread gets when it starts. */
export interface ThreadStart {
  memory: ClippingMemory;
  /** Of the texts that this thread had of the batch, as one vector, in shared memory. */
  sums: Float64Array;
}

/** Asks a thread to take part in a batch, which lies in the memory. */
export interface BatchTask {
  texts: number;
  microbatch: number;
}

/** A microbatch is done by all threads together, or there is nothing left for this thread. */
export type ThreadReport = 'microbatch' | 'idle';

const bytes = (length: number, each: number): SharedArrayBuffer => new SharedArrayBuffer(length * each);
export const sharedDoubles = (length: number): Float64Array => new Float64Array(bytes(length, 8));
const sharedFloats = (length: number): Float32Array => new Float32Array(bytes(length, 4));

function sharedIntegers(length: number, values?: Int32Array): Int32Array {
  const shared = new Int32Array(bytes(length, 4));
  if (values) shared.set(values);
  return shared;
}

export function newClippingMemory(
  shape: WordCnnShape,
  data: { texts: EncodedTexts; labels: Int32Array },
  clipNorm: number,
): ClippingMemory {
  const { words, starts } = data.texts;
  const count = data.labels.length;
  return {
    shape,
    clipNorm,
    weights: sharedFloats(wordCnnLength(shape)),
    products: sharedFloats(shape.buckets * wordCnnSizes(shape).rows),
    texts: { words: sharedIntegers(words.length, words), starts: sharedIntegers(starts.length, starts) },
    labels: sharedIntegers(count, data.labels),
    drawn: sharedIntegers(count),
    losses: sharedDoubles(count),
    counters: sharedIntegers(2),
  };
}
