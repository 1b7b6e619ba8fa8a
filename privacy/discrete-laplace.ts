/**
 * @file Counts with discrete Laplace (two-sided geometric) noise: Z with P(z) proportional to exp(-|z| / scale), z an
 * integer (Ghosh, Roughgarden, Sundararajan 2012). Counts and noise are integers and sampling compares integers only,
 * so what the proof says of the mechanism holds for what the machine computes.
 */

import type { DiscreteLaplaceMechanism } from '../schemas/plan.ts';
import type { KeyedStream } from './noise.ts';

/** Uniform on 0 .. limit - 1: as many bits as the largest needs, drawn again when they are too large. */
function uniformBelow(stream: KeyedStream, limit: bigint): bigint {
  const bits = (limit - 1n).toString(2).length;
  const excess = BigInt((8 - (bits % 8)) % 8);
  for (;;) {
    const drawn = BigInt(`0x${stream.bytes(Math.ceil(bits / 8)).toString('hex')}`) >> excess;
    if (drawn < limit) return drawn;
  }
}

/** True with probability exp(-numerator / denominator), at most 1: Canonne, Kamath, Steinke 2020, algorithm 1. */
function bernoulliExp(stream: KeyedStream, numerator: bigint, denominator: bigint): boolean {
  let terms = 1n;
  while (uniformBelow(stream, denominator * terms) < numerator) terms += 1n;
  return terms % 2n === 1n;
}

/** A positive double as the fraction that it is. */
function fractionOf(value: number): { numerator: bigint; denominator: bigint } {
  let denominator = 1n;
  let scaled = value;
  for (; !Number.isInteger(scaled); denominator *= 2n) scaled *= 2;
  return { numerator: BigInt(scaled), denominator };
}

/**
 * One draw of discrete Laplace noise, exactly: Canonne, Kamath, Steinke 2020, algorithm 2.
 *
 * @param scale at least 2^-20, finite.
 * @throws RangeError for another scale.
 */
export function sampleDiscreteLaplace(stream: KeyedStream, scale: number): number {
  if (!(scale >= 2 ** -20 && scale < Infinity)) throw new RangeError(`no scale for discrete Laplace noise: ${scale}`);
  const { numerator: t, denominator: s } = fractionOf(scale);
  for (;;) {
    const part = uniformBelow(stream, t);
    if (!bernoulliExp(stream, part, t)) continue;
    let whole = 0n;
    while (bernoulliExp(stream, 1n, 1n)) whole += 1n;
    const magnitude = Number((part + t * whole) / s);
    const negative = uniformBelow(stream, 2n) === 1n;
    if (negative && magnitude === 0) continue;
    return negative ? -magnitude : magnitude;
  }
}

/** Variance of discrete Laplace noise: 2 a / (1 - a)^2 with a = exp(-1 / scale). */
export function discreteLaplaceVariance(scale: number): number {
  const whole = -Math.expm1(-1 / scale);
  return (2 * Math.exp(-1 / scale)) / (whole * whole);
}

/**
 * A table of counts with noise on each cell, negative ones included. A record more or less changes one cell by one, so
 * the table as a whole is (1 / scale)-differentially private.
 *
 * @param counts [rows][columns] of natural numbers, whose shape does not depend on the records.
 */
export const noisyCounts = (
  counts: readonly (readonly number[])[],
  { scale }: DiscreteLaplaceMechanism,
  stream: KeyedStream,
): number[][] => counts.map((row) => row.map((count) => count + sampleDiscreteLaplace(stream, scale)));
