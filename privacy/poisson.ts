/** @file Poisson sampling of a logical batch: what the accountant assumes, and nothing less random. */

import type { KeyedStream } from './noise.ts';

/**
 * Draws a batch that holds each record independently with probability `samplingProbability`. The batch's size varies
 * and may be zero; callers must neither pad it with records, nor cut it, nor skip an empty one.
 *
 * One uniform number is consumed for each record whatever its content or the outcome, so whether record i is in depends
 * on the stream and i only.
 *
 * @param records number of records in the data set.
 * @returns indices of the drawn records, ascending.
 * @throws RangeError when the probability is outside [0, 1].
 */
export function poissonBatch(stream: KeyedStream, records: number, samplingProbability: number): Int32Array {
  if (!(samplingProbability >= 0 && samplingProbability <= 1)) {
    throw new RangeError(`a sampling probability lies in [0, 1], not ${samplingProbability}`);
  }
  // Numbers of the stream are multiples of 2^-53: below a threshold that is one too, each is drawn with exactly that
  // probability, which is never above the one that is accounted for.
  const threshold = Math.floor(samplingProbability * 2 ** 53) / 2 ** 53;
  const drawn: number[] = [];
  for (let record = 0; record < records; record++) {
    if (stream.uniform() < threshold) drawn.push(record);
  }
  return Int32Array.from(drawn);
}
