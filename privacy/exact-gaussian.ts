/**
 * @file Integers distributed exactly as a Gaussian of real numbers rounded to the nearest integer, from a stream of
 * random bits: no bit of a sample depends on the accuracy of floating-point functions.
 *
 * Rejection with uniform numbers of unboundedly many bits, in the spirit of Karney 2016 (arXiv:1303.6257). |X| of a
 * standard normal X is proposed from a density that is constant on cells of width 1/16 below 8 and on unit intervals
 * above, and accepted with probability exp(-X^2/2) over that constant times a common factor. Constants are integers, so
 * a cell is chosen exactly by comparing integers. Position in the cell, x, and the number V that decides acceptance are
 * uniform in [0, 1); of their bits only so many are drawn as the decisions need:
 *
 * - V lies below the least probability in the cell by its first 32 bits: accepted (most of the time);
 * - else double precision, using nothing but the operations that IEEE 754 rounds correctly, with a proven error;
 * - else integer arithmetic on ever more bits (about once in 10^8 samples).
 *
 * Which integer `deviation * X` rounds to is settled in the same manner. Given an ideal stream the result is the rounded
 * Gaussian itself: the statistical distance is zero. docs/privacy.md has the proof.
 */

import { exponentialBounds } from './exact-exponential.ts';
import type { KeyedStream } from './noise.ts';

const cells = 128;
const cellsPerUnit = 16;
/** The envelope's height at zero. The sum of all heights just fits 32 bits. */
const peak = 208_000_000n;
/** Largest deviation: the samples of any that is likelier than 2^-1000 are integers that a double holds. */
export const largestDeviation = 2 ** 40;

/** A piece of the envelope: X = (start + x) * width, accepted when V < exp(-X^2/2) * factor. */
interface Cell {
  start: bigint;
  /** width = 2^-widthBits */
  widthBits: number;
  factor: { numerator: bigint; denominator: bigint };
}

interface Envelope {
  cells: Cell[];
  /** [cells + 1] sums of heights: word w of 32 bits means cell j when w lies in [sums[j], sums[j + 1]). */
  sums: Float64Array;
  /** [1024] least cell that words with these leading ten bits can mean. */
  guide: Int32Array;
  /** [cells] first 32 bits of V below this: accepted wherever x is. */
  sure: Float64Array;
  /** [cells] probability of acceptance at x = 0, within 2^-52. */
  atStart: Float64Array;
}

function makeEnvelope(): Envelope {
  const bits = 96;
  const made: Cell[] = [];
  const sums = new Float64Array(cells + 1);
  const sure = new Float64Array(cells);
  const atStart = new Float64Array(cells);
  for (let j = 0; j < cells; j++) {
    // (j / 16)^2 / 2 = j^2 / 2^9
    const [startLow, startHigh] = exponentialBounds(BigInt(j * j), 9, bits);
    const [endLow] = exponentialBounds(BigInt((j + 1) ** 2), 9, bits);
    const height = -((-startHigh * peak) >> BigInt(bits));
    made.push({ start: BigInt(j), widthBits: 4, factor: { numerator: peak, denominator: height } });
    sums[j + 1] = sums[j]! + Number(height);
    sure[j] = Number((endLow * peak) / (height << BigInt(bits - 32)));
    atStart[j] = Number((startLow * peak) / (height << BigInt(bits - 53))) / 2 ** 53;
  }
  const guide = new Int32Array(1024);
  for (let lead = 0, cell = 0; lead < guide.length; lead++) {
    while (cell < cells - 1 && sums[cell + 1]! <= lead * 2 ** 22) cell++;
    guide[lead] = cell;
  }
  return { cells: made, sums, guide, sure, atStart };
}

const envelope = makeEnvelope();

/** A uniform number in [0, 1) of which `count` bits are drawn: it lies in [value, value + 1] / 2^count. */
class LazyUniform {
  value: bigint;
  count: number;
  private readonly stream: KeyedStream;

  constructor(stream: KeyedStream, value = 0n, count = 0) {
    this.stream = stream;
    this.value = value;
    this.count = count;
  }

  refine(): void {
    this.value = (this.value << 32n) | BigInt(this.stream.word());
    this.count += 32;
  }
}

/** Whether V < factor * exp(-X^2/2), drawing bits of x and V until that is certain. */
function accepts({ start, widthBits, factor }: Cell, x: LazyUniform, v: LazyUniform): boolean {
  for (;;) {
    const place = (start << BigInt(x.count)) + x.value;
    const shift = 2 * (x.count + widthBits) + 1;
    const bits = v.count + 8;
    const [, high] = exponentialBounds(place * place, shift, bits);
    const [low] = exponentialBounds((place + 1n) ** 2n, shift, bits);
    const scale = factor.denominator << BigInt(bits - v.count);
    if ((v.value + 1n) * scale <= low * factor.numerator) return true;
    if (v.value * scale >= high * factor.numerator) return false;
    x.refine();
    v.refine();
  }
}

/** A double as m * 2^exponent with an integer m. */
function dyadic(value: number): { m: bigint; exponent: number } {
  let [m, exponent] = [value, 0];
  for (; !Number.isInteger(m); exponent--) m *= 2;
  return { m: BigInt(m), exponent };
}

/** The integer next to deviation * X, drawing bits of x until it is certain. */
function roundedExactly(deviation: number, { start, widthBits }: Cell, x: LazyUniform): number {
  const { m, exponent } = dyadic(deviation);
  for (;;) {
    const place = (start << BigInt(x.count)) + x.value;
    // deviation * X + 1/2 = (2 m place + 2^below) / 2^(below + 1)
    const below = BigInt(x.count + widthBits - exponent);
    const rounded = (at: bigint): bigint => (2n * m * at + (1n << below)) >> (below + 1n);
    const least = rounded(place);
    if (rounded(place + 1n) === least) return Number(least);
    x.refine();
  }
}

/**
 * X of 8 or more. The tail's height is 2^-13 in all, 2^-14-t on [8 + t, 9 + t); a cell's height counts a sixteenth of its
 * width, hence 2^-18-t for a unit interval. Null: not accepted.
 */
function fromTail(stream: KeyedStream, deviation: number): number | null {
  if (stream.word() >>> 19 !== 0) return null;
  let t = 0;
  while ((stream.word() & 1) === 0) t++;
  const cell: Cell = {
    start: BigInt(8 + t),
    widthBits: 0,
    factor: { numerator: peak << BigInt(18 + t), denominator: 1n },
  };
  const x = new LazyUniform(stream);
  const v = new LazyUniform(stream);
  return accepts(cell, x, v) ? roundedExactly(deviation, cell, x) : null;
}

/**
 * Bound of the error of `probability`: 2^-45 for the bits of x that are left out, 2^-45 for the rest of the series, and
 * some roundings of numbers below 1.
 */
const probabilityError = 2 ** -40;

/** Acceptance in cell j at x: exp(-(X^2 - X0^2)/2) by its Taylor polynomial of degree 12, times that at the start X0. */
function probability(j: number, x: number): number {
  const d = (j * x + (x * x) / 2) / 256;
  let sum = 1;
  for (let n = 12; n > 0; n--) sum = 1 - (d * sum) / n;
  return envelope.atStart[j]! * sum;
}

/**
 * Makes a sampler of N(0, deviation^2) rounded to the nearest integer.
 *
 * @param deviation in units of the grid; the double is taken as the exact number.
 * @throws RangeError when it is not in (0, 2^40].
 */
export function roundedGaussian(stream: KeyedStream, deviation: number): () => number {
  if (!(deviation > 0 && deviation <= largestDeviation)) {
    throw new RangeError(`a deviation lies in (0, 2^40] units, not ${deviation}`);
  }
  const { sums, guide, sure } = envelope;
  const inCells = sums[cells]!;
  // Of x 44 bits are known: half of the error bounds that are meant.
  const xError = deviation * 2 ** -47;
  return () => {
    for (;;) {
      const chosen = stream.word();
      if (chosen >= inCells) {
        const far = chosen === inCells ? fromTail(stream, deviation) : null;
        if (far === null) continue;
        return stream.word() & 1 ? 0 - far : far;
      }
      let j = guide[chosen >>> 22]!;
      while (sums[j + 1]! <= chosen) j++;

      const first = stream.word();
      const second = stream.word();
      const x = (first * 4096 + (second >>> 20)) * 2 ** -44;
      const v = stream.word();
      let exactly: LazyUniform | null = null;
      if (v >= sure[j]!) {
        const p = probability(j, x) * 2 ** 32;
        if (v >= p + 2 ** 32 * probabilityError) continue;
        if (v + 1 > p - 2 ** 32 * probabilityError) {
          exactly = new LazyUniform(stream, (BigInt(first) << 12n) | BigInt(second >>> 20), 44);
          if (!accepts(envelope.cells[j]!, exactly, new LazyUniform(stream, BigInt(v), 32))) continue;
        }
      }

      // j + x has 51 bits, so only the product and the sum are rounded.
      const raised = deviation * ((j + x) / cellsPerUnit) + 0.5;
      const error = xError + raised * 2 ** -51;
      let rounded = Math.floor(raised);
      const fraction = raised - rounded;
      if (exactly !== null || fraction <= error || fraction >= 1 - error) {
        exactly ??= new LazyUniform(stream, (BigInt(first) << 12n) | BigInt(second >>> 20), 44);
        rounded = roundedExactly(deviation, envelope.cells[j]!, exactly);
      }
      return second & 1 ? 0 - rounded : rounded;
    }
  };
}
