/** @file What is not public leaves a host sealed: AES-256-GCM under a key from the secret that workers share. */

import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { sharedSecret, storeKeyOf } from '../privacy/shared-noise-key.ts';
import { EpsilonflowError } from '../schemas/errors.ts';

const cipher = 'aes-256-gcm';
const mark = Buffer.from('EFS1');
const nonceBytes = 12;
const tagBytes = 16;
const headBytes = mark.length + nonceBytes + tagBytes;

/** @throws EpsilonflowError ARGUMENT_INVALID where no secret is set */
async function key(): Promise<Buffer> {
  const secret = sharedSecret();
  if (secret !== null) return storeKeyOf(secret);
  throw new EpsilonflowError('ARGUMENT_INVALID', 'EPSILONFLOW_RUN_SECRET is not set: the shared store needs it.', {
    hint: 'Give every worker and command that uses EPSILONFLOW_STORE_URL the same secret: see docs/operations.md.',
  });
}

export const isSealed = (content: Buffer): boolean => content.subarray(0, mark.length).equals(mark);

/** @param name what the content is found by: sealed under one name it opens under no other */
export async function seal(name: string, content: Buffer): Promise<Buffer> {
  const nonce = randomBytes(nonceBytes);
  const sealing = createCipheriv(cipher, await key(), nonce).setAAD(Buffer.from(name));
  const body = Buffer.concat([sealing.update(content), sealing.final()]);
  return Buffer.concat([mark, nonce, sealing.getAuthTag(), body]);
}

/** Null when it was altered, cut, renamed, or sealed with another secret. */
export async function unseal(name: string, sealed: Buffer): Promise<Buffer | null> {
  if (sealed.length < headBytes || !isSealed(sealed)) return null;
  const nonce = sealed.subarray(mark.length, mark.length + nonceBytes);
  const opening = createDecipheriv(cipher, await key(), nonce, { authTagLength: tagBytes });
  opening.setAAD(Buffer.from(name)).setAuthTag(sealed.subarray(mark.length + nonceBytes, headBytes));
  const body = opening.update(sealed.subarray(headBytes));
  try {
    return Buffer.concat([body, opening.final()]);
  } catch {
    return null;
  }
}
