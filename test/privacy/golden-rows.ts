import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { MechanismEvent } from '../../privacy/accounting/index.ts';
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
