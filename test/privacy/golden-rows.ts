import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { MechanismEvent } from '../../privacy/accounting/index.ts';
import { logAdd, logNormalTail } from '../../privacy/accounting/special-functions.ts';
import { sharedAccounting } from '../shared-data.ts';

/** Rows of a CSV of golden vectors; quoted fields may hold commas and doubled quotes. */
export function goldenRows(name: string): Record<string, string>[] {
  const lines = readFileSync(join(sharedAccounting, name), 'utf8').trim().split('\n');
  const fields = (line: string): string[] =>
    [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(
      (match) => match[1]?.replaceAll('""', '"') ?? match[2]!,
    );
  const header = fields(lines[0]!);
  return lines.slice(1).map((line) => Object.fromEntries(fields(line).map((value, i) => [header[i]!, value])));
}

export const trainingSteps = (row: Record<string, string>): MechanismEvent => ({
  mechanism: 'poisson-gaussian',
  samplingProbability: Number(row['q']),
  noiseMultiplier: Number(row['sigma']),
  count: Number(row['steps']),
});

type Item = ['pg' | 'pl', number, number, number] | ['g' | 'l', number, number];

/** Events of a `spec_json` field. */
export const composition = (spec: string): MechanismEvent[] =>
  (JSON.parse(spec) as Item[]).map((item): MechanismEvent => {
    switch (item[0]) {
      case 'pg':
        return {
          mechanism: 'poisson-gaussian',
          samplingProbability: item[1],
          noiseMultiplier: item[2],
          count: item[3],
        };
      case 'pl':
        return { mechanism: 'poisson-laplace', samplingProbability: item[1], scale: item[2], count: item[3] };
      case 'g':
        return { mechanism: 'gaussian', noiseMultiplier: item[1], count: item[2] };
      case 'l':
        return { mechanism: 'laplace', scale: item[1], count: item[2] };
    }
  });

/**
 * What the reference computes at a fractional order: it adds the magnitudes of the terms of an alternating series
 * (Mironov, Talwar, Zhang 2019, section 3.3) and so lies above the true divergence.
 */
export function referenceDivergence(q: number, sigma: number, alpha: number): number {
  const threshold = sigma * sigma * Math.log(1 / q - 1) + 0.5;
  let total = -Infinity;
  let logBinomial = 0;
  let last = Infinity;
  for (let i = 0; i < 100_000; i += 1) {
    const j = alpha - i;
    const below = logBinomial + i * Math.log(q) + j * Math.log1p(-q) + (i * i - i) / (2 * sigma * sigma);
    const above = logBinomial + j * Math.log(q) + i * Math.log1p(-q) + (j * j - j) / (2 * sigma * sigma);
    const first = below + logNormalTail((i - threshold) / sigma);
    const second = above + logNormalTail((threshold - j) / sigma);
    total = logAdd(total, logAdd(first, second));
    const size = Math.max(first, second);
    if (size < last && size < total - 30) break;
    last = size;
    logBinomial += Math.log(Math.abs((alpha - i) / (i + 1)));
  }
  return total / (alpha - 1);
}
