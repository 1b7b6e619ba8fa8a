/**
 * @file Complex Fourier transform of power-of-two length, with a bound of its round-off.
 *
 * The forward transform leaves frequencies in bit-reversed order and the inverse takes them so: products and powers
 * don't care, and no time goes into reordering.
 */

/** Twiddle factors of all levels, level of length L at offset L / 2 - 1. */
interface Twiddles {
  real: Float64Array;
  imaginary: Float64Array;
}

const tables = new Map<number, Twiddles>();

function twiddles(length: number): Twiddles {
  let table = tables.get(length);
  if (table === undefined) {
    const real = new Float64Array(Math.max(1, length - 1));
    const imaginary = new Float64Array(Math.max(1, length - 1));
    for (let half = 1; half < length; half *= 2) {
      for (let j = 0; j < half; j += 1) {
        const angle = (-Math.PI * j) / half;
        real[half - 1 + j] = Math.cos(angle);
        imaginary[half - 1 + j] = Math.sin(angle);
      }
    }
    table = { real, imaginary };
    tables.set(length, table);
  }
  return table;
}

/** In place; `real` and `imaginary` of one power-of-two length. Frequencies come out in bit-reversed order. */
export function transform(real: Float64Array, imaginary: Float64Array): void {
  const length = real.length;
  const table = twiddles(length);
  for (let half = length / 2; half >= 1; half /= 2) {
    for (let start = 0; start < length; start += 2 * half) {
      for (let j = 0; j < half; j += 1) {
        const low = start + j;
        const high = low + half;
        const c = table.real[half - 1 + j]!;
        const s = table.imaginary[half - 1 + j]!;
        const re = real[low]! - real[high]!;
        const im = imaginary[low]! - imaginary[high]!;
        real[low] = real[low]! + real[high]!;
        imaginary[low] = imaginary[low]! + imaginary[high]!;
        real[high] = re * c - im * s;
        imaginary[high] = re * s + im * c;
      }
    }
  }
}

/** Inverse of `transform`, scaled by 1 / length. */
export function inverseTransform(real: Float64Array, imaginary: Float64Array): void {
  const length = real.length;
  const table = twiddles(length);
  for (let half = 1; half < length; half *= 2) {
    for (let start = 0; start < length; start += 2 * half) {
      for (let j = 0; j < half; j += 1) {
        const low = start + j;
        const high = low + half;
        const c = table.real[half - 1 + j]!;
        const s = -table.imaginary[half - 1 + j]!;
        const re = real[high]! * c - imaginary[high]! * s;
        const im = real[high]! * s + imaginary[high]! * c;
        real[high] = real[low]! - re;
        imaginary[high] = imaginary[low]! - im;
        real[low] = real[low]! + re;
        imaginary[low] = imaginary[low]! + im;
      }
    }
  }
  for (let i = 0; i < length; i += 1) {
    real[i] = real[i]! / length;
    imaginary[i] = imaginary[i]! / length;
  }
}

/**
 * Position of the conjugate frequency in bit-reversed order: -k keeps the lowest set bit of k and flips those above,
 * so reversed it keeps the highest and flips those below.
 */
export const conjugatePosition = (position: number): number =>
  position < 2 ? position : 3 * (1 << (31 - Math.clz32(position))) - 1 - position;

/**
 * Bound of |computed - exact| of every output, over the sum of the inputs' magnitudes: in each of log2(length) levels
 * an addition (1 unit), a complex product (sqrt 5) and a rounded twiddle factor (under 1.5) touch each path once.
 */
export const roundOff = (length: number): number => 5 * 2 ** -53 * Math.max(1, Math.log2(length));
