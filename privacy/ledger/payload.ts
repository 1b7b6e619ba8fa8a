/** @file What the rows of the chain say, openly and to the ledger alone. Pure. */

import type { Mechanism } from '../../schemas/plan.ts';
import { privateDigest, type ChainedRow } from './chain.ts';
import type { SealedData } from './reservation.ts';

/** Payload of a row; what older rows lack is undefined. */
export interface Payload {
  delta?: number;
  budget?: number | null;
  digest?: string;
  workflowId?: string;
  experiment?: string;
  planDigest?: string;
  nodeId?: string;
  nodeKey?: string;
  keyEpoch?: number;
  data?: SealedData;
  mechanism?: Mechanism;
  mechanismDigest?: string;
  statedBudget?: number | null;
  charged?: number;
  admittedBy?: string | null;
  fixedPlan?: boolean;
  token?: number;
  keyFingerprint?: string | null;
  proof?: unknown;
  records?: number;
  recordsHash?: string;
  batchSizes?: (number | null)[];
  waiver?: string;
  reason?: string;
  privateDigest?: string;
}

/**
 * Payload and private payload of a row together, or what is wrong with them.
 *
 * @param isPart whether the private payload may be left out, as in evidence that is handed over
 */
export function payloadOf(row: ChainedRow, { isPart }: { isPart: boolean }): Payload | string {
  const payload = objectOf(row.payload);
  if (payload === null) return 'holds no JSON object';
  const text = row.privatePayload ?? null;
  if (payload.privateDigest === undefined) return text === null ? payload : 'names no private payload, and has one';
  if (text === null) return isPart ? payload : 'lacks its private payload';
  if (privateDigest(text) !== payload.privateDigest) return 'has another private payload than it names';
  return { ...payload, ...objectOf(text) };
}

function objectOf(text: string): Payload | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : null;
  } catch {
    return null;
  }
}
