/**
 * @file Working folders in the private store: what a step keeps between attempts (checkpoints, noise key), and which
 * attempt holds it now. One living attempt at a time holds a folder; a new worker finds there which attempts died.
 */

import { createHmac } from 'node:crypto';
import { appendFile, mkdir, open, readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { destroyNoiseKey, ensureNoiseKey, keyFingerprint, readNoiseKey } from '../privacy/noise-key.ts';
import { sharedNoiseKey, sharedSecret } from '../privacy/shared-noise-key.ts';
import { exists, makePrivateFolder, syncPath, writeDurably } from '../store/disk.ts';
import { statePaths } from '../stack/paths.ts';
import type { StepReceipt } from './contract.ts';
import { isProcessAlive, killProcess, thisProcess, type ProcessIdentity } from './process-identity.ts';

/** The attempt that holds a folder. */
export interface Claim {
  worker: ProcessIdentity;
  /** The step's own process, once it was started. */
  job: ProcessIdentity | null;
  /** Base64: lets another worker report the attempt's end to Temporal. */
  taskToken: string;
  nodeId: string;
  workflowId: string;
  attempt: number;
}

export interface WorkFolder {
  id: string;
  directory: string;
  checkpointDirectory: string;
  noiseKeyFile: string;
}

/** Whose step a private folder is of. */
interface Owner {
  workflowId: string;
  receipts: readonly StepReceipt[];
  /** The workflow that runs the step; null where the folder was made by none, or by an earlier version. */
  stepWorkflowId: string | null;
  /** By entry, fingerprint of a noise key that was made for this folder alone: nobody without it can record steps. */
  ownKeys: Record<string, string>;
}

/** A step that is run once more under the same workflow would need the next epoch, as a new ledger entry. */
export const keyEpoch = 0;

/** What to take in place of something that is not there; any other error is one. */
const ifAbsent =
  <T>(value: T) =>
  (error: NodeJS.ErrnoException): T => {
    if (error.code === 'ENOENT') return value;
    throw error;
  };

const root = (): string => join(statePaths.privateStore(), 'work');
const claimFile = (directory: string): string => join(directory, 'claim.json');
const ownerFile = (directory: string): string => join(directory, 'owner.json');
const recordsFile = (directory: string): string => join(directory, 'records');
const crashFile = (directory: string, workflowId: string): string =>
  join(directory, `crashes-${fingerprint(workflowId)}`);

const folder = (id: string): WorkFolder => ({
  id,
  directory: join(root(), id),
  checkpointDirectory: join(root(), id, 'checkpoints'),
  noiseKeyFile: join(root(), id, 'noise.key'),
});

/**
 * A private node's folder belongs to its ledger entries, named by the first: neither key nor checkpoints are ever used
 * under others.
 */
export function privateWorkFolder([first]: readonly StepReceipt[]): WorkFolder {
  const { entryId, workflowId, nodeKey } = first!;
  return folder(`${nodeKey.slice(0, 32)}-${fingerprint(`${workflowId}\n${entryId}`)}`);
}

/** Other nodes go on with what any earlier run left of the same content key. */
export const publicWorkFolder = (nodeKey: string): WorkFolder => folder(nodeKey.slice(0, 32));

const fingerprint = (text: string): string =>
  createHmac('sha256', 'epsilonflow work folder').update(text).digest('hex').slice(0, 16);

/**
 * Makes the folder this attempt's, after ending what may be left of an earlier holder's job. When a living attempt of
 * another run holds it, a folder beside it is taken.
 */
export async function claimWorkFolder(wanted: WorkFolder, claim: Omit<Claim, 'worker' | 'job'>): Promise<WorkFolder> {
  let taken = wanted;
  const present = await readClaim(wanted.directory);
  if (present && isHeldByOther(present, claim)) taken = folder(`${wanted.id}-${fingerprint(claim.workflowId)}`);
  const earlier = await readClaim(taken.directory);
  if (earlier?.job) killProcess(earlier.job);
  await makePrivateFolder(statePaths.privateStore());
  await mkdir(taken.checkpointDirectory, { recursive: true, mode: 0o700 });
  await writeClaim(taken, { ...claim, worker: thisProcess(), job: null });
  return taken;
}

/** The same node of the same run is this step itself, in an earlier attempt that Temporal has given up. */
const isHeldByOther = (present: Claim, claim: Omit<Claim, 'worker' | 'job'>): boolean =>
  (present.workflowId !== claim.workflowId || present.nodeId !== claim.nodeId) && isProcessAlive(present.worker);

export async function writeClaim(taken: WorkFolder, claim: Claim): Promise<void> {
  await writeDurably(claimFile(taken.directory), JSON.stringify(claim), 0o600);
}

/** Gives an attempt's folder up unless a newer one has claimed it; the checkpoints stay for the next attempt. */
export async function dropClaim(taken: WorkFolder, taskToken: string): Promise<void> {
  if ((await readClaim(taken.directory))?.taskToken !== taskToken) return;
  await rm(claimFile(taken.directory), { force: true });
}

export async function readClaim(directory: string): Promise<Claim | null> {
  try {
    return JSON.parse(await readFile(claimFile(directory), 'utf8')) as Claim;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** Claims whose worker is dead, with their folders. */
export async function deadClaims(): Promise<{ work: WorkFolder; claim: Claim }[]> {
  const found: { work: WorkFolder; claim: Claim }[] = [];
  const ids = await readdir(root()).catch(ifAbsent<string[]>([]));
  for (const id of ids) {
    const work = folder(id);
    const claim = await readClaim(work.directory);
    if (claim && !isProcessAlive(claim.worker)) found.push({ work, claim });
  }
  return found;
}

/** Counts that the step's own process died, over the attempts of one run. */
export async function countCrash(taken: WorkFolder, workflowId: string): Promise<number> {
  const file = crashFile(taken.directory, workflowId);
  const before = Number(await readFile(file, 'utf8').catch(() => '0'));
  await writeDurably(file, String(before + 1), 0o600);
  return before + 1;
}

/** Creates the noise key of a private step, durably, unless it is there: a random one, or that of a shared secret. */
export async function createNoiseKey(
  work: WorkFolder,
  receipts: readonly StepReceipt[],
  stepWorkflowId: string | null = null,
): Promise<void> {
  const { workflowId, nodeKey } = receipts[0]!;
  const secret = sharedSecret();
  const key = secret === null ? undefined : await sharedNoiseKey(secret, { workflowId, nodeKey, keyEpoch });
  const owner: Owner = { workflowId, receipts, stepWorkflowId, ownKeys: {} };
  await makeOwnedFolder(work, owner);
  await ensureNoiseKey(work.noiseKeyFile, key);
  if (secret !== null) return;
  const own = await readNoiseKey(work.noiseKeyFile);
  const ownKeys = receipts.map(({ entryId }) => [entryId, keyFingerprint(own, entryId)] as const);
  await makeOwnedFolder(work, { ...owner, ownKeys: Object.fromEntries(ownKeys) });
}

async function makeOwnedFolder(work: WorkFolder, owner: Owner): Promise<void> {
  await makePrivateFolder(statePaths.privateStore());
  await mkdir(work.directory, { recursive: true, mode: 0o700 });
  await writeDurably(ownerFile(work.directory), JSON.stringify(owner), 0o600);
}

/**
 * Remembers, on disk when it returns, how many step records an entry has in the ledger: a copy of the ledger from before
 * lacks no row of the chain. Lines are only added, so that attempts that overlap take nothing back; the greatest counts.
 */
export async function keepRecordCount(
  work: WorkFolder,
  receipts: readonly StepReceipt[],
  { entryId }: StepReceipt,
  records: number,
): Promise<void> {
  const file = recordsFile(work.directory);
  const isNew = (await readFile(file).catch(ifAbsent(null))) === null;
  const { workflowId } = receipts[0]!;
  if (isNew && !(await exists(ownerFile(work.directory)))) {
    await makeOwnedFolder(work, { workflowId, receipts, stepWorkflowId: null, ownKeys: {} });
  }
  // A line begins with its break: one that a crash tore spoils no other.
  await appendFile(file, `\n${entryId} ${records} `, { mode: 0o600, flush: true });
  if (isNew) await syncPath(work.directory);
}

/** How many records entries had at least, by id. */
export async function keptRecordCounts(work: WorkFolder): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  const text = await readFile(recordsFile(work.directory), 'utf8').catch(ifAbsent(''));
  for (const [, entryId, records] of text.matchAll(/^(\S+) (\d+) $/gm)) {
    counts.set(entryId!, Math.max(counts.get(entryId!) ?? 0, Number(records)));
  }
  return counts;
}

export type OwnedFolder = Owner & { work: WorkFolder };

/** Folders of private steps, with whose they are. */
export async function privateWorkFolders(): Promise<OwnedFolder[]> {
  const found: OwnedFolder[] = [];
  for (const id of await readdir(root()).catch(ifAbsent<string[]>([]))) {
    const work = folder(id);
    const owner = await readFile(ownerFile(work.directory), 'utf8').catch(ifAbsent(null));
    // Older folders do not name all.
    const unnamed = { receipts: [], stepWorkflowId: null, ownKeys: {} };
    if (owner !== null) found.push({ work, ...unnamed, ...(JSON.parse(owner) as Pick<Owner, 'workflowId'>) });
  }
  return found;
}

/** Where workers share a secret, a key that this host lacks can be made again: it is the same. */
export async function remakeNoiseKey(work: WorkFolder, receipts: readonly StepReceipt[]): Promise<void> {
  if (sharedSecret() !== null) await createNoiseKey(work, receipts);
}

export async function hasNoiseKey(work: WorkFolder): Promise<boolean> {
  const handle = await open(work.noiseKeyFile, 'r').catch(() => null);
  await handle?.close();
  return handle !== null;
}

/** Ends a step whose entries are open: as below, but whose it was and how many records it had stays for their release. */
export async function closeWorkFolder(work: WorkFolder): Promise<void> {
  await destroyNoiseKey(work.noiseKeyFile);
  const kept = [ownerFile(work.directory), recordsFile(work.directory)];
  for (const name of await readdir(work.directory).catch(ifAbsent<string[]>([]))) {
    const path = join(work.directory, name);
    if (!kept.includes(path)) await rm(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
  }
}

/** Ends a folder: the key is overwritten and removed, then the checkpoints. */
export async function destroyWorkFolder(work: WorkFolder): Promise<void> {
  await destroyNoiseKey(work.noiseKeyFile);
  // An attempt that wakes late may write its claim meanwhile; it is fenced off, and the folder goes all the same.
  await rm(work.directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
}
