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

/**
 * In place; `real` and `imaginary` of one power-of-two length. Frequencies come out in bit-reversed order.
 * Two levels are passed through at once, and the last alone where their number is odd.
 */
export function transform(real: Float64Array, imaginary: Float64Array): void {
  const length = real.length;
  const { real: cosines, imaginary: sines } = twiddles(length);
  let half = length / 2;
  for (; half >= 2; half /= 4) {
    const quarter = half / 2;
    for (let start = 0; start < length; start += 2 * half) {
      for (let j = 0; j < quarter; j += 1) {
        const p0 = start + j;
        const p1 = p0 + quarter;
        const p2 = p0 + half;
        const p3 = p1 + half;
        const re0 = real[p0]! + real[p2]!;
        const im0 = imaginary[p0]! + imaginary[p2]!;
        const re1 = real[p1]! + real[p3]!;
        const im1 = imaginary[p1]! + imaginary[p3]!;
        const reA = real[p0]! - real[p2]!;
        const imA = imaginary[p0]! - imaginary[p2]!;
        const reB = real[p1]! - real[p3]!;
        const imB = imaginary[p1]! - imaginary[p3]!;
        const cA = cosines[half - 1 + j]!;
        const sA = sines[half - 1 + j]!;
        const cB = cosines[half - 1 + j + quarter]!;
        const sB = sines[half - 1 + j + quarter]!;
        const re2 = reA * cA - imA * sA;
        const im2 = reA * sA + imA * cA;
        const re3 = reB * cB - imB * sB;
        const im3 = reB * sB + imB * cB;
        const c = cosines[quarter - 1 + j]!;
        const s = sines[quarter - 1 + j]!;
        real[p0] = re0 + re1;
        imaginary[p0] = im0 + im1;
        real[p1] = (re0 - re1) * c - (im0 - im1) * s;
        imaginary[p1] = (re0 - re1) * s + (im0 - im1) * c;
        real[p2] = re2 + re3;
        imaginary[p2] = im2 + im3;
        real[p3] = (re2 - re3) * c - (im2 - im3) * s;
        imaginary[p3] = (re2 - re3) * s + (im2 - im3) * c;
      }
    }
  }
  if (half === 1) pairwise(real, imaginary);
}

/** Sums and differences of neighbours: the level of length 2, forward and inverse. */
function pairwise(real: Float64Array, imaginary: Float64Array): void {
  for (let low = 0; low < real.length; low += 2) {
    const re = real[low + 1]!;
    const im = imaginary[low + 1]!;
    real[low + 1] = real[low]! - re;
    imaginary[low + 1] = imaginary[low]! - im;
    real[low] = real[low]! + re;
    imaginary[low] = imaginary[low]! + im;
  }
}

/** Inverse of `transform`, scaled by 1 / length. */
export function inverseTransform(real: Float64Array, imaginary: Float64Array): void {
  const length = real.length;
  const { real: cosines, imaginary: sines } = twiddles(length);
  const odd = Math.log2(length) % 2 === 1;
  if (odd) pairwise(real, imaginary);
  for (let quarter = odd ? 2 : 1; quarter < length; quarter *= 4) {
    const half = 2 * quarter;
    for (let start = 0; start < length; start += 2 * half) {
      for (let j = 0; j < quarter; j += 1) {
        const p0 = start + j;
        const p1 = p0 + quarter;
        const p2 = p0 + half;
        const p3 = p1 + half;
        const c = cosines[quarter - 1 + j]!;
        const s = -sines[quarter - 1 + j]!;
        const reA = real[p1]! * c - imaginary[p1]! * s;
        const imA = real[p1]! * s + imaginary[p1]! * c;
        const reB = real[p3]! * c - imaginary[p3]! * s;
        const imB = real[p3]! * s + imaginary[p3]! * c;
        const re2 = real[p2]! + reB;
        const im2 = imaginary[p2]! + imB;
        const re3 = real[p2]! - reB;
        const im3 = imaginary[p2]! - imB;
        const re0 = real[p0]! + reA;
        const im0 = imaginary[p0]! + imA;
        const re1 = real[p0]! - reA;
        const im1 = imaginary[p0]! - imA;
        const cA = cosines[half - 1 + j]!;
        const sA = -sines[half - 1 + j]!;
        const cB = cosines[half - 1 + j + quarter]!;
        const sB = -sines[half - 1 + j + quarter]!;
        const reC = re2 * cA - im2 * sA;
        const imC = re2 * sA + im2 * cA;
        const reD = re3 * cB - im3 * sB;
        const imD = re3 * sB + im3 * cB;
        real[p0] = re0 + reC;
        imaginary[p0] = im0 + imC;
        real[p2] = re0 - reC;
        imaginary[p2] = im0 - imC;
        real[p1] = re1 + reD;
        imaginary[p1] = im1 + imD;
        real[p3] = re1 - reD;
        imaginary[p3] = im1 - imD;
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
