/**
 * @file Registers datasets: which account their records belong to, and whether they are records of another account too.
 */

import { splitOfAccount } from '../../schemas/charges.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { namesOf } from './account-tables.ts';
import type { EventKind } from './chain.ts';
import type { DatasetRegistration, RegisteredDataset } from './ledger.ts';
import { corrupt } from './refusals.ts';
import { decodeRows, encodeRows, overlaps, rowsDigest, rowsWithout, sharedRows, unionOfRows } from './rows.ts';
import type { LedgerTransaction, LedgerWriter } from './writer.ts';

/** Hashes of one database row: 700 kB of text. */
const rowsAPart = 1 << 16;

/** One after the other: the splits of a dataset are compared too. */
export async function registerAll(
  writer: LedgerWriter,
  registrations: readonly DatasetRegistration[],
): Promise<RegisteredDataset[]> {
  const registered: RegisteredDataset[] = [];
  for (const registration of registrations) registered.push(await registerDataset(writer, registration));
  return registered;
}

/**
 * Finds the account of a dataset and adds the dataset's rows to it. Idempotent by digest.
 *
 * The account is the one that knows the digest, else the one that `decision` joins, else the one that other data of
 * this name belong to, else the one of this name; data of an unknown name of which one account holds every record already belong to that account.
 * Private data join none that only benchmarks were registered with, unless `decision` says so.
 *
 * @throws EpsilonflowError DATASET_OVERLAP when a private dataset shares records with other accounts, or a benchmark with
 *   private ones, and nobody has acknowledged it; LEDGER_MISMATCH when the rows were hashed under another secret; ARGUMENT_INVALID for a decision
 *   that does not fit.
 */
async function registerDataset(writer: LedgerWriter, registration: DatasetRegistration): Promise<RegisteredDataset> {
  const { transaction } = writer;
  const { dataset, rows, decision } = registration;
  await checkRowKey(transaction, rows.key);
  const known = await accountOfDigest(transaction, registration);
  if (known !== null && decision === undefined && (await isRegistered(transaction, registration))) {
    if (registration.benchmark) await checkBenchmark(transaction, registration, [known]);
    return { dataset, account: known, isNew: false };
  }
  const accounts = await rowsByAccount(transaction);
  const account = known ?? (await chooseAccount(transaction, registration, accounts));
  if (decision !== undefined) await checkDecision(transaction, registration, account, known);

  const held = accounts.get(account) ?? new BigUint64Array();
  const added = rowsWithout(rows.hashes, held);
  const together = unionOfRows([held, added]);
  const found = await overlapsOf(transaction, account, together, accounts);
  const accepted = new Set(decision?.apartFrom);
  const refused = found.filter(({ other }) => !accepted.has(other));
  if (registration.benchmark)
    await checkBenchmark(transaction, registration, [account, ...refused.map(({ other }) => other)]);
  else if (refused.length > 0) throw overlapping(registration, account, refused);

  for (const { other, shared } of found)
    if (accepted.has(other)) await acknowledge(transaction, account, other, shared);
  if (decision !== undefined) await appendDecision(writer, registration, account);
  const isNew = !(await isRegistered(transaction, registration));
  if (isNew) await addRows(writer, registration, { account, known, added });
  return { dataset, account, isNew };
}

/** What identifies the data of an account: both splits of a dataset come under the dataset's digest. */
export const accountDigest = ({ dataset, digest }: { dataset: string; digest: string }): string =>
  splitOfAccount(dataset).split === 'test' ? `${digest}/test` : digest;

/** The account that these data belong to; null when they were never registered. */
export async function accountOfDigest(
  transaction: LedgerTransaction,
  data: { dataset: string; digest: string },
): Promise<string | null> {
  const row = await transaction
    .selectFrom('account_digests')
    .select('account')
    .where('digest', '=', accountDigest(data))
    .executeTakeFirst();
  return row?.account ?? null;
}

async function checkRowKey(transaction: LedgerTransaction, key: string): Promise<void> {
  const known = await requireRowKey(transaction, key);
  if (known === null) await transaction.updateTable('ledger_identity').set({ row_key: key }).execute();
}

/** @throws EpsilonflowError LEDGER_MISMATCH when the ledger's rows were hashed under another key. Null: none were. */
export async function requireRowKey(transaction: LedgerTransaction, key: string): Promise<string | null> {
  const { row_key: known } = await transaction
    .selectFrom('ledger_identity')
    .select('row_key')
    .executeTakeFirstOrThrow();
  if (known !== null && known !== key) {
    throw new EpsilonflowError(
      'LEDGER_MISMATCH',
      'The secret beside the privacy ledger is not the one it was made with.',
      {
        hint: 'Restore the ledger and its dataset secret together, from the same backup.',
      },
    );
  }
  return known;
}

/** Whether data of this digest were registered, with their records. */
export async function isRegistered(
  transaction: LedgerTransaction,
  data: { dataset: string; digest: string },
): Promise<boolean> {
  const row = await transaction
    .selectFrom('account_rows')
    .select('part')
    .where('digest', '=', accountDigest(data))
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

export async function rowsByAccount(transaction: LedgerTransaction): Promise<Map<string, BigUint64Array>> {
  const parts = new Map<string, BigUint64Array[]>();
  for (const { account, hashes } of await transaction
    .selectFrom('account_rows')
    .select(['account', 'hashes'])
    .orderBy('account')
    .execute()) {
    const list = parts.get(account);
    if (list === undefined) parts.set(account, [decodeRows(hashes)]);
    else list.push(decodeRows(hashes));
  }
  return new Map([...parts].map(([account, list]) => [account, unionOfRows(list)]));
}

async function accountExists(transaction: LedgerTransaction, name: string): Promise<boolean> {
  const registered = await transaction
    .selectFrom('account_digests')
    .select('account')
    .where('account', '=', name)
    .limit(1)
    .executeTakeFirst();
  if (registered !== undefined) return true;
  const opened = await transaction.selectFrom('accounts').select('name').where('name', '=', name).executeTakeFirst();
  return opened !== undefined;
}

/** The account that other data of this name were registered with last. */
async function accountOfName(transaction: LedgerTransaction, dataset: string): Promise<string | null> {
  const row = await transaction
    .selectFrom('account_names')
    .select('account')
    .where('dataset', '=', dataset)
    .executeTakeFirst();
  return row?.account ?? null;
}

async function chooseAccount(
  transaction: LedgerTransaction,
  { dataset, rows, decision, benchmark }: DatasetRegistration,
  accounts: ReadonlyMap<string, BigUint64Array>,
): Promise<string> {
  if (typeof decision?.joins === 'string') return decision.joins;
  const { benchmarks } = await registeredAccounts(transaction);
  const isShut = (account: string): boolean => !benchmark && benchmarks.has(account);
  const named = await accountOfName(transaction, dataset);
  if (named !== null && isShut(named)) throw benchmarkAccount(dataset, named);
  if (named !== null) return named;
  if (decision !== undefined || rows.hashes.length === 0 || (await accountExists(transaction, dataset))) return dataset;
  const holders = [...accounts].filter(([, held]) => sharedRows(rows.hashes, held) === rows.hashes.length);
  return holders.length === 1 && !isShut(holders[0]![0]) ? holders[0]![0] : dataset;
}

async function checkDecision(
  transaction: LedgerTransaction,
  { dataset, decision }: DatasetRegistration,
  account: string,
  known: string | null,
): Promise<void> {
  const { joins, apartFrom } = decision!;
  if (joins !== null && known !== null && joins !== known) {
    throw new EpsilonflowError('ARGUMENT_INVALID', `These data belong to account ${known} already.`);
  }
  if (apartFrom.includes(account)) {
    throw new EpsilonflowError('ARGUMENT_INVALID', `These data are those of account ${account}: they can't be apart.`);
  }
  for (const name of [...(joins === null || joins === dataset ? [] : [joins]), ...apartFrom]) {
    if (await accountExists(transaction, name)) continue;
    throw new EpsilonflowError('ARGUMENT_INVALID', `The ledger has no account ${name}.`, {
      hint: 'The refusal of "epsilonflow plan SPEC" names those that share records.',
    });
  }
}

interface Overlap {
  other: string;
  shared: number;
}

const inOrder = (a: string, b: string): [string, string] => (a < b ? [a, b] : [b, a]);

async function overlapsOf(
  transaction: LedgerTransaction,
  account: string,
  rows: BigUint64Array,
  accounts: ReadonlyMap<string, BigUint64Array>,
): Promise<Overlap[]> {
  const acknowledged = new Map<string, number>();
  for (const row of await transaction
    .selectFrom('account_overlaps')
    .selectAll()
    .where((where) => where.or([where('account', '=', account), where('other', '=', account)]))
    .execute()) {
    acknowledged.set(row.account === account ? row.other : row.account, Number(row.shared));
  }
  const found: Overlap[] = [];
  for (const [other, held] of accounts) {
    if (other === account) continue;
    const shared = sharedRows(rows, held);
    if (overlaps(rows.length, held.length, shared, acknowledged.get(other) ?? 0)) found.push({ other, shared });
  }
  return found;
}

/** Tells neither how many records are shared nor which: that is private. */
function overlapping({ dataset }: DatasetRegistration, account: string, found: readonly Overlap[]): EpsilonflowError {
  const others = found.map(({ other }) => other);
  const named = account === dataset ? dataset : `${dataset} (account ${account})`;
  const apart = others.map((other) => `--apart-from ${other}`).join(' ');
  const first = dataset.startsWith(`${others[0]}/`)
    ? 'Take the records that stand in both splits out of one'
    : `Call it ${others[0]} if it is a version of that`;
  return new EpsilonflowError(
    'DATASET_OVERLAP',
    `Dataset ${named} shares records with ${others.length === 1 ? 'account' : 'accounts'} ${others.join(', ')}: ` +
      'what is spent on one would weaken the other unseen.',
    {
      hint:
        `${first}, or tell the ledger who decided what: ` +
        `epsilonflow ledger register SPEC ${dataset} --joins ${others[0]} --reason "..." ` +
        `(${apart} in its place where the shared records are nobody's).`,
    },
  );
}

/** Private data that would spend where exact figures were shown. */
const benchmarkAccount = (dataset: string, account: string): EpsilonflowError =>
  new EpsilonflowError(
    'DATASET_OVERLAP',
    `Dataset ${dataset} is private, but its name leads to account ${account}, which only benchmarks were registered ` +
      'with: what was shown of those was exact.',
    {
      hint:
        'Give it another name, or, if it is that data and they are private from now on, tell the ledger who decided it: ' +
        `epsilonflow ledger register SPEC ${dataset} --joins ${account} --reason "..."`,
    },
  );

/**
 * Figures of a benchmark leave as they are: what was registered as private can't become one.
 *
 * @param accounts its own, then those that it shares records with
 */
async function checkBenchmark(
  transaction: LedgerTransaction,
  { dataset }: DatasetRegistration,
  [own, ...others]: readonly [string, ...string[]],
): Promise<void> {
  const secret = await privateAccounts(transaction);
  const of = [own, ...others].filter((account) => secret.has(account));
  if (of.length === 0) return;
  const apart = of.filter((account) => account !== own).map((other) => `--apart-from ${other}`);
  throw new EpsilonflowError(
    'DATASET_OVERLAP',
    `Dataset ${dataset} is called a benchmark, but belongs to private data of ${of.length === 1 ? 'account' : 'accounts'} ` +
      `${of.join(', ')} or shares records with them.`,
    {
      hint:
        'Give it `sensitivity: private`, or, if it is other data, another name.' +
        (apart.length === 0
          ? ''
          : " Where the shared records are nobody's, tell the ledger who decided it: " +
            `epsilonflow ledger register SPEC ${dataset} ${apart.join(' ')} --reason "..."`),
    },
  );
}

/** Accounts by the data that were ever registered with them: some of them private, or benchmarks alone. */
async function registeredAccounts(
  transaction: LedgerTransaction,
): Promise<{ secret: Set<string>; benchmarks: Set<string> }> {
  const secret = new Set<string>();
  const benchmarks = new Set<string>();
  for (const { account, payload } of await rowsOfKind(transaction, 'digest')) {
    // Rows of old versions, and of benchmarks that were charged without their records, say nothing of it.
    const { private: isPrivate } = JSON.parse(payload) as { private?: boolean };
    if (isPrivate === true) secret.add(account);
    if (isPrivate === false) benchmarks.add(account);
  }
  for (const account of secret) benchmarks.delete(account);
  return { secret, benchmarks };
}

/** Accounts that private data were ever registered with. */
export const privateAccounts = async (transaction: LedgerTransaction): Promise<Set<string>> =>
  (await registeredAccounts(transaction)).secret;

/** Whether registering these data would be admitted and change nothing. */
export async function isSettled(
  transaction: LedgerTransaction,
  data: Pick<DatasetRegistration, 'dataset' | 'digest' | 'benchmark'>,
): Promise<boolean> {
  if (!(await isRegistered(transaction, data))) return false;
  if (!data.benchmark) return true;
  const account = await accountOfDigest(transaction, data);
  return account === null || !(await privateAccounts(transaction)).has(account);
}

async function acknowledge(
  transaction: LedgerTransaction,
  account: string,
  with_: string,
  shared: number,
): Promise<void> {
  const [first, other] = inOrder(account, with_);
  await transaction
    .insertInto('account_overlaps')
    .values({ account: first, other, shared })
    .onConflict((conflict) => conflict.columns(['account', 'other']).doUpdateSet({ shared }))
    .execute();
}

const appendDecision = (writer: LedgerWriter, registration: DatasetRegistration, account: string): Promise<void> => {
  const { dataset } = registration;
  const digest = accountDigest(registration);
  const { joins, apartFrom, author, reason } = registration.decision!;
  return writer.append({
    kind: 'registered',
    account,
    entryId: null,
    payload: { dataset, digest, joins, apartFrom: [...apartFrom], author, reason },
  });
};

async function addRows(
  writer: LedgerWriter,
  registration: DatasetRegistration,
  { account, known, added }: { account: string; known: string | null; added: BigUint64Array },
): Promise<void> {
  const { transaction } = writer;
  const { dataset } = registration;
  const digest = accountDigest(registration);
  // A part without rows says that the rows of this digest were looked at.
  for (let part = 0; part === 0 || part * rowsAPart < added.length; part += 1) {
    const hashes = encodeRows(added.subarray(part * rowsAPart, (part + 1) * rowsAPart));
    await transaction.insertInto('account_rows').values({ digest, part, account, hashes }).execute();
  }
  if (known === null) await transaction.insertInto('account_digests').values({ digest, account }).execute();
  await transaction
    .insertInto('account_names')
    .values({ dataset, account })
    .onConflict((conflict) => conflict.column('dataset').doUpdateSet({ account }))
    .execute();
  await writer.append({
    kind: 'digest',
    account,
    entryId: null,
    payload: { digest, dataset, rows: rowsDigest(added), private: !registration.benchmark },
  });
}

/**
 * Compares the stored rows and acknowledgements with what the chain says of them.
 *
 * @throws EpsilonflowError LEDGER_CORRUPT naming the first thing that differs
 */
export async function verifyRows(transaction: LedgerTransaction): Promise<void> {
  const stored = new Set(
    (await transaction.selectFrom('account_rows').select('digest').distinct().execute()).map((row) => row.digest),
  );
  for (const { account, payload } of await rowsOfKind(transaction, 'digest')) {
    const { digest, rows } = JSON.parse(payload) as { digest: string; rows?: string };
    if (rows === undefined) continue;
    const parts = await transaction
      .selectFrom('account_rows')
      .select(['account', 'hashes'])
      .where('digest', '=', digest)
      .orderBy('part')
      .execute();
    const hashes = unionOfRows(parts.map((part) => decodeRows(part.hashes)));
    if (rowsDigest(hashes) !== rows || parts.some((part) => part.account !== account)) {
      throw corrupt(`the records of dataset digest ${digest.slice(0, 16)} were changed after they were registered`);
    }
    stored.delete(digest);
  }
  for (const digest of stored) {
    throw corrupt(`records of dataset digest ${digest.slice(0, 16)} are in no row of the chain`);
  }
  await verifyNames(transaction);
  await verifyOverlaps(transaction);
}

async function verifyNames(transaction: LedgerTransaction): Promise<void> {
  const expected = namesOf(await rowsOfKind(transaction, 'digest'));
  for (const { dataset, account } of await transaction.selectFrom('account_names').selectAll().execute()) {
    if (expected.get(dataset) !== account) throw corrupt(`dataset ${dataset} leads to account ${account} in no row`);
    expected.delete(dataset);
  }
  for (const dataset of expected.keys()) throw corrupt(`the account of dataset ${dataset} is missing`);
}

/** How many records two accounts share stands in no row, being private: it must be at most what they share now. */
async function verifyOverlaps(transaction: LedgerTransaction): Promise<void> {
  const acknowledged = await transaction.selectFrom('account_overlaps').selectAll().execute();
  if (acknowledged.length === 0) return;
  const decided = new Set(
    (await rowsOfKind(transaction, 'registered')).flatMap(({ account, payload }) =>
      (JSON.parse(payload) as { apartFrom: string[] }).apartFrom.map((other) => inOrder(account, other).join('\n')),
    ),
  );
  const accounts = await rowsByAccount(transaction);
  const none = new BigUint64Array();
  for (const { account, other, shared } of acknowledged) {
    const most = sharedRows(accounts.get(account) ?? none, accounts.get(other) ?? none);
    if (Number(shared) > most || !decided.has(`${account}\n${other}`)) {
      throw corrupt(`nobody said in its rows that ${account} and ${other} share what they share`);
    }
  }
}

export const rowsOfKind = (
  transaction: LedgerTransaction,
  kind: EventKind,
): Promise<{ account: string; payload: string }[]> =>
  transaction
    .selectFrom('ledger_rows')
    .select(['account', 'payload'])
    .where('kind', '=', kind)
    .orderBy('sequence')
    .execute();
