/**
 * @file Keys that workers on several hosts make alike, from a secret that they share. Whoever guesses the secret
 * can make them too and undo noise, and fingerprints of keys, which the ledger holds, tell a right guess from a wrong one:
 * so each guess is made to cost memory and time.
 */

import { createHmac, scrypt, type ScryptOptions } from 'node:crypto';

import { EpsilonflowError } from '../schemas/errors.ts';
import { noiseKeyBytes } from './noise.ts';

/** What a key belongs to. */
export interface KeyOwner {
  workflowId: string;
  /** Content key of the node. */
  nodeKey: string;
  keyEpoch: number;
}

const leastSecretBytes = 32;

/** scrypt (Percival 2009; RFC 7914): 128 N r = 128 MiB and some tenths of a second a guess. */
const cost = { N: 2 ** 17, r: 8, p: 1 } as const;
const options: ScryptOptions = { ...cost, maxmem: 2 * 128 * cost.N * cost.r };

/** Keys that were asked for last, by secret and salt: a run's many steps cost one derivation. */
const derivedKeys = new Map<string, Promise<Buffer>>();
const mostKeys = 16;

/**
 * `EPSILONFLOW_RUN_SECRET`; null where it is not set.
 *
 * @throws EpsilonflowError ARGUMENT_INVALID when it is short enough to be guessed
 */
export function sharedSecret(): string | null {
  const secret = process.env['EPSILONFLOW_RUN_SECRET'];
  if (!secret) return null;
  if (Buffer.byteLength(secret) >= leastSecretBytes) return secret;
  throw new EpsilonflowError(
    'ARGUMENT_INVALID',
    'EPSILONFLOW_RUN_SECRET is too short: noise could be guessed from it.',
    {
      hint: `Give every worker the same ${leastSecretBytes} random bytes or more, for instance of: openssl rand -hex 32`,
    },
  );
}

/**
 * The 32-byte key of a node: HMAC-SHA256 over content key and key epoch, under scrypt of the secret. The salt names the
 * workflow, which all its workers know: a guess, or a table of guesses made beforehand, serves for one run alone.
 */
export async function sharedNoiseKey(secret: string, { workflowId, nodeKey, keyEpoch }: KeyOwner): Promise<Buffer> {
  const runKey = await runKeyOf(secret, workflowId);
  return createHmac('sha256', runKey).update([nodeKey, keyEpoch].join('\n')).digest();
}

/** The 32-byte key under which what is not public is sealed on its way to a shared store. No noise comes from it. */
export const storeKeyOf = (secret: string): Promise<Buffer> => derivedKey(secret, 'epsilonflow/store-secret/1');

const runKeyOf = (secret: string, workflowId: string): Promise<Buffer> =>
  derivedKey(secret, `epsilonflow/run-secret/1\n${workflowId}`);

function derivedKey(secret: string, salt: string): Promise<Buffer> {
  const name = JSON.stringify([secret, salt]);
  let key = derivedKeys.get(name);
  if (key === undefined) {
    key = new Promise<Buffer>((resolve, reject) => {
      scrypt(secret, salt, noiseKeyBytes, options, (error, derived) => (error ? reject(error) : resolve(derived)));
    });
    derivedKeys.set(name, key);
    key.catch(() => derivedKeys.delete(name));
    if (derivedKeys.size > mostKeys) derivedKeys.delete(derivedKeys.keys().next().value!);
  }
  return key;
}
