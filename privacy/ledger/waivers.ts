/**
 * @file Exact figures of private records that leave under a waiver of a spec: no mechanism bounds them and nothing is
 * charged, so a row of the chain says that they may have left.
 */

import { openAccount } from './accounts.ts';
import type { LedgerWaiver, PlanWaiver } from './ledger.ts';
import { privatePayload, type LedgerTransaction, type LedgerWriter } from './writer.ts';

interface WaivedRow {
  payload: string;
  private_payload: string | null;
  sequence: number;
}

const rowsOf = (transaction: LedgerTransaction, account: string): Promise<WaivedRow[]> =>
  transaction
    .selectFrom('ledger_rows')
    .select(['sequence', 'payload', 'private_payload'])
    .where('kind', '=', 'waived')
    .where('account', '=', account)
    .orderBy('sequence')
    .execute();

const told = ({ payload, private_payload: secret, sequence }: WaivedRow): LedgerWaiver => {
  const { waiver, reason } = JSON.parse(payload) as Pick<LedgerWaiver, 'waiver' | 'reason'>;
  const { experiment, planDigest } = JSON.parse(secret!) as Pick<LedgerWaiver, 'experiment' | 'planDigest'>;
  return { waiver, reason, row: Number(sequence), experiment, planDigest };
};

/** What was waived on an account, oldest first. */
export const waiversOf = async (transaction: LedgerTransaction, account: string): Promise<LedgerWaiver[]> =>
  (await rowsOf(transaction, account)).map(told);

/** A row for each of the accounts, opened where it is new, unless it has that of the same plan. */
export async function recordWaiver(writer: LedgerWriter, waived: PlanWaiver): Promise<void> {
  const { waiver, reason, experiment, planDigest, accounts } = waived;
  for (const stated of accounts) {
    const { name } = await openAccount(writer, stated, { planDigest }, false);
    const known = await waiversOf(writer.transaction, name);
    if (known.some((one) => one.waiver === waiver && one.planDigest === planDigest)) continue;
    await writer.append({
      kind: 'waived',
      account: name,
      entryId: null,
      payload: { waiver, reason },
      // Whose it is concerns nobody else.
      privatePayload: privatePayload({ experiment, planDigest }),
    });
  }
}
