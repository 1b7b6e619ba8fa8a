/**
 * @file A log of what training and releases really spend, for tests that compare it with the ledger: it is written where
 * noise is used, and knows nothing of the ledger. `EPSILONFLOW_SPENDING_LOG` names the file; without it, nothing happens.
 */

import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';

import type { Mechanism } from '../schemas/plan.ts';

/** One use of noise. Equal records are one and the same noise, bit for bit, and spend once. */
export interface SpendingRecord {
  nodeKey: string;
  /** Tells keys apart. */
  key: string;
  step: number;
  /** Digest of the state that the step started from. */
  digest: string;
  mechanism: Mechanism;
}

/** Call when the noise was added, before anything that was computed from it leaves the process. On disk when it returns. */
export function logSpending(
  secret: { key: Buffer; nodeKey: string },
  use: { step: number; digest: Buffer; mechanism: Mechanism },
): void {
  const path = process.env['EPSILONFLOW_SPENDING_LOG'];
  if (!path) return;
  const record: SpendingRecord = {
    nodeKey: secret.nodeKey,
    key: createHash('sha256').update('spending log').update(secret.key).digest('hex').slice(0, 16),
    step: use.step,
    digest: use.digest.toString('hex'),
    mechanism: use.mechanism,
  };
  const file = openSync(path, 'a', 0o600);
  try {
    writeSync(file, `${JSON.stringify(record)}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
