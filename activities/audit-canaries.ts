/** @file The canaries of an audit: random texts that are planted among the records of a training. */

import type { TextRecord } from '../datasets/index.ts';
import { seededStream, type KeyedStream } from '../privacy/noise.ts';
import type { AuditParams } from '../schemas/step-params.ts';

export interface Canaries {
  /** One coin each says whether it is planted, once. */
  single: TextRecord[];
  /** 1 where it is. */
  included: Uint8Array;
  /** Planted so many times. */
  repeated: { repetitions: number; records: TextRecord[] }[];
  /** Never planted: what repeated ones are ranked among. */
  candidates: TextRecord[];
}

const words = 8;
const letters = 4;
const alphabet = 26;

/** Random letters: no text of the world, and none like another. */
function randomText(stream: KeyedStream): string {
  const letter = (): string => String.fromCharCode('a'.charCodeAt(0) + Math.floor(stream.uniform() * alphabet));
  const word = (): string => Array.from({ length: letters }, letter).join('');
  return Array.from({ length: words }, word).join(' ');
}

/** @param classes of the dataset that they are planted in */
export function drawCanaries(
  { canaries, repetitions, repeated, candidates, seed }: AuditParams,
  classes: number,
): Canaries {
  const texts = seededStream(seed, 'texts of canaries');
  const coins = seededStream(seed, 'coins of canaries');
  const draw = (count: number, label: () => number): TextRecord[] =>
    Array.from({ length: count }, () => ({ text: randomText(texts), label: label() }));
  const anyLabel = (): number => Math.floor(texts.uniform() * Math.max(1, classes));
  // What is ranked among others has their label, or the class would have a part in the rank.
  const firstLabel = (): number => 0;
  return {
    single: draw(canaries, anyLabel),
    included: Uint8Array.from({ length: canaries }, () => Number(coins.uniform() < 0.5)),
    repeated: repetitions.map((times) => ({ repetitions: times, records: draw(repeated, firstLabel) })),
    candidates: draw(candidates, firstLabel),
  };
}

/** The records that are trained on beside the dataset's. */
export const plantedRecords = ({ single, included, repeated }: Canaries): TextRecord[] => [
  ...single.filter((_, canary) => included[canary] === 1),
  ...repeated.flatMap(({ repetitions, records }) =>
    records.flatMap((record) => Array.from({ length: repetitions }, () => record)),
  ),
];
