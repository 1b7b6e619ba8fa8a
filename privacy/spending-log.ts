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
  /** Digest of what the noise was added to: one noise on two sums would tell their difference. */
  sums: string;
  mechanism: Mechanism;
}

const logFile = (): string | undefined => process.env['EPSILONFLOW_SPENDING_LOG'];

/** Digest of what noise is added to, taken before it is; null, and nothing computed, where nothing is logged. */
export function sumsDigest(sums: Readonly<Record<string, Float64Array>>): Buffer | null {
  if (!logFile()) return null;
  const hash = createHash('sha256');
  for (const [name, { buffer, byteOffset, byteLength }] of Object.entries(sums)) {
    hash.update(`${name} ${byteLength}\n`).update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest();
}

/** Call when the noise was added, before anything that was computed from it leaves the process. On disk when it returns. */
export function logSpending(
  secret: { key: Buffer; nodeKey: string },
  use: { step: number; digest: Buffer; sums: Buffer | null; mechanism: Mechanism },
): void {
  const path = logFile();
  if (!path || use.sums === null) return;
  const record: SpendingRecord = {
    nodeKey: secret.nodeKey,
    key: createHash('sha256').update('spending log').update(secret.key).digest('hex').slice(0, 16),
    step: use.step,
    digest: use.digest.toString('hex'),
    sums: use.sums.toString('hex'),
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
