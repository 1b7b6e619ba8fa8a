/** @file Public door of the privacy ledger. */

import { openDatabase } from './database.ts';
import type { KnownHead, Ledger } from './ledger.ts';
import { SqlLedger } from './sql-ledger.ts';

export type * from './ledger.ts';
export { ledgerName } from './database.ts';
export { ledgerSecret } from './secret.ts';
export { envelopeAccount, envelopeEntry } from './envelope.ts';
export { markerFile, markerText, readMarker, type Marker } from './marker.ts';
export { paymentOf } from './payment.ts';
export { checkReceipts, isAnyClosed, receiptOf, sealMechanism } from './receipt.ts';
export { mechanismEvent } from './admission.ts';
export { followChain, type ChainedRow } from './chain.ts';
export { keyLost, proofDifference } from './refusals.ts';
export { calledPublic } from './public-data.ts';
export { publicRowsOf, rowsOf } from './rows.ts';

/**
 * Opens the ledger at `url` (`sqlite:FILE` or `postgres://...`), making it when it is not there. Close it when done.
 * Throws ARGUMENT_INVALID for a URL of another kind; SERVICE_UNREACHABLE when it can't be reached or another process
 * keeps it locked; LEDGER_TOO_NEW.
 */
export async function openLedger(url: string): Promise<Ledger> {
  return new SqlLedger(await openDatabase(url));
}

/** The newest row of a ledger, as it is remembered outside. */
export const headOf = async (ledger: Ledger): Promise<KnownHead> => ({
  ledger: await ledger.identity(),
  ...(await ledger.head()),
});
