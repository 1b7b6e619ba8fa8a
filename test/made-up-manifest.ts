/** @file What a test publishes where its content plays no part. */

import type { UnpublishedManifest } from '../store/index.ts';

export const madeUpKey = 'ab'.repeat(32);

export const madeUpManifest = (changes: Partial<UnpublishedManifest> = {}): UnpublishedManifest => ({
  key: madeUpKey,
  kind: 'generate',
  label: 'dp',
  sensitivity: 'benchmark',
  nodeId: 'synthetic[seed=1]',
  axes: { seed: 1 },
  metrics: { records: 1 },
  summary: {},
  privacy: [],
  ...changes,
});
