/**
 * @file Gaussian samples in double precision by the ziggurat method (Marsaglia and Tsang 2000, in the form of Doornik
 * 2005), for mechanisms of `arithmetic: float`, which draw one for each weight of a model.
 *
 * The density lies under 128 layers of one area; most samples are a uniform number times a layer's width. Layer and
 * place come from different bits. Such samples leave gaps among the floats that an attacker can exploit (Mironov 2012):
 * noise that a proof speaks of is made by `exact-gaussian.ts`.
 */

import type { KeyedStream } from './noise.ts';

const layers = 128;
/** Where the tail begins, and the area of each layer: the base layer's counts the tail. */
const tailStart = 3.442619855899;
const area = 9.91256303526217e-3;

const density = (x: number): number => Math.exp(-0.5 * x * x);

/** [layers + 1] from the base, which is widened by the tail's area, up to the density's top. */
const widths = new Float64Array(layers + 1);
/** [layers] share of a layer's width that the layer above spans: all of it lies under the density. */
const inside = new Float64Array(layers);

widths[0] = area / density(tailStart);
widths[1] = tailStart;
for (let layer = 2; layer < layers; layer++) {
  const below = widths[layer - 1]!;
  widths[layer] = Math.sqrt(-2 * Math.log(area / below + density(below)));
}
for (let layer = 0; layer < layers; layer++) inside[layer] = widths[layer + 1]! / widths[layer]!;

/** A sample above `tailStart` (Marsaglia 1964). */
function fromTail(stream: KeyedStream): number {
  for (;;) {
    const beyond = -Math.log(1 - stream.uniform()) / tailStart;
    if (-2 * Math.log(1 - stream.uniform()) >= beyond * beyond) return tailStart + beyond;
  }
}

/** Adds independent N(0, standardDeviation^2) samples to all values. */
export function addFloatGaussian(values: Float64Array, stream: KeyedStream, standardDeviation: number): void {
  for (let index = 0; index < values.length; index++) {
    values[index] = values[index]! + standardDeviation * standardNormal(stream);
  }
}

function standardNormal(stream: KeyedStream): number {
  for (;;) {
    const low = stream.word();
    const high = stream.word();
    // 53 bits as a number in [-1, 1), and seven of the others.
    const place = ((high >>> 5) * 0x4000000 + (low >>> 6)) * 2 ** -52 - 1;
    const layer = (low & 63) | ((high & 1) << 6);
    if (Math.abs(place) < inside[layer]!) return place * widths[layer]!;
    if (layer === 0) return place < 0 ? -fromTail(stream) : fromTail(stream);
    const x = place * widths[layer]!;
    const [least, most] = [density(widths[layer]!), density(widths[layer + 1]!)];
    if (least + stream.uniform() * (most - least) < density(x)) return x;
  }
}
