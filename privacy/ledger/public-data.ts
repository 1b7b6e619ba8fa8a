/**
 * @file Data that a spec calls public, held against private accounts: what is public is read without any charge, so
 * records that an account pays for must not be read under another name.
 */

import { EpsilonflowError } from '../../schemas/errors.ts';
import type { Decision, PublicData, RowsOfAccount } from './ledger.ts';
import { requireRowKey, privateAccounts, rowsByAccount, rowsOfKind } from './registration.ts';
import { holdsRecordsOf } from './rows.ts';
import type { LedgerTransaction, LedgerWriter } from './writer.ts';

/**
 * Private accounts whose records `data` hold, without those for which someone has acknowledged just these data.
 *
 * @param pending private data that will be registered with the same plan
 * @throws EpsilonflowError LEDGER_MISMATCH when the rows were hashed under another secret
 */
export async function privateSharers(
  transaction: LedgerTransaction,
  data: PublicData,
  pending: readonly RowsOfAccount[],
): Promise<string[]> {
  await requireRowKey(transaction, data.rows.key);
  const known = await privateAccounts(transaction);
  const held = known.size === 0 ? [] : [...(await rowsByAccount(transaction))].filter(([name]) => known.has(name));
  const others = [...held, ...pending.map(({ dataset, rows }) => [dataset, rows.hashes] as const)];
  const sharers = new Set(others.filter(([, hashes]) => holdsRecordsOf(data.rows, hashes)).map(([name]) => name));
  if (sharers.size === 0) return [];
  for (const { account, payload } of await rowsOfKind(transaction, 'registered')) {
    const { digest, isPublic } = JSON.parse(payload) as { digest: string; isPublic?: boolean };
    if (isPublic === true && digest === data.digest) sharers.delete(account);
  }
  return [...sharers].sort();
}

/** A row on each account whose records some data may hold and be public all the same. */
export async function acknowledgePublic(
  writer: LedgerWriter,
  { dataset, digest }: Pick<PublicData, 'dataset' | 'digest'>,
  { apartFrom, author, reason }: Pick<Decision, 'apartFrom' | 'author' | 'reason'>,
): Promise<void> {
  for (const account of new Set(apartFrom)) {
    const payload = { dataset, digest, isPublic: true, joins: null, apartFrom: [account], author, reason };
    await writer.append({ kind: 'registered', account, entryId: null, payload });
  }
}

/** Tells neither how many records are shared nor which: that is private. */
export function calledPublic(dataset: string, sharers: readonly string[]): EpsilonflowError {
  return new EpsilonflowError(
    'DATASET_OVERLAP',
    `Dataset ${dataset} is called public, but holds records of the private data of ` +
      `${sharers.length === 1 ? 'account' : 'accounts'} ${sharers.join(', ')}: reading them would be charged to nobody.`,
    {
      hint:
        'Take the records out or give it `sensitivity: private`. Where they may be public all the same (a released set ' +
        'repeats common phrases, for one), tell the ledger who decided it: ' +
        `epsilonflow ledger register SPEC ${dataset} ${sharers.map((other) => `--apart-from ${other}`).join(' ')} --reason "..."`,
    },
  );
}
