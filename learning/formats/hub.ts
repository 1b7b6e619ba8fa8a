/**
 * @file Models of the Hugging Face Hub: the files of one commit, fetched once into a folder of its own and checked against
 * the digests that the hub's repository holds.
 */

import { createHash, type Hash } from 'node:crypto';
import { mkdir, mkdtemp, open, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { HubApiError, downloadFile, listFiles, modelInfo, type ListFileEntry } from '@huggingface/hub';

import { EpsilonflowError } from '../../schemas/errors.ts';

export interface HubOptions {
  /** Folder that keeps fetched models. */
  cache: string;
  /** Address of the hub; that of Hugging Face unless given. */
  endpoint?: string | undefined;
  /** Access token, for models that are not open. */
  token?: string | undefined;
}

interface HubReference {
  /** `organisation/name` */
  repository: string;
  /** Branch, tag or commit. */
  revision: string;
}

/** `organisation/name` or `organisation/name@revision`. @throws EpsilonflowError MODEL_MISSING for anything else */
function parseReference(reference: string): HubReference {
  const match = /^([\w.-]+\/[\w.-]+)(?:@([\w./-]+))?$/.exec(reference);
  const [, repository, revision = 'main'] = match ?? [];
  if (repository !== undefined && !repository.split('/').some((part) => /^\.+$/.test(part))) {
    return { repository, revision };
  }
  throw new EpsilonflowError('MODEL_MISSING', `"${reference}" names no model of the hub`, {
    hint: 'Write organisation/name@revision, where the revision is a commit, tag or branch.',
  });
}

/** Repositories may hold the same weights in other forms too: `consolidated.safetensors`, `pytorch_model.bin`, ONNX. */
const isWanted = (path: string): boolean =>
  /^[^/]+\.json$/.test(path) || /^model(-\d+-of-\d+)?\.safetensors$/.test(path);

const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);

/** What the hub refused or a network did not carry, in words. */
function hubFault(reference: string, cause: unknown): EpsilonflowError {
  if (cause instanceof EpsilonflowError) return cause;
  if (!(cause instanceof HubApiError) || cause.statusCode >= 500) {
    return new EpsilonflowError('SERVICE_UNREACHABLE', `The hub could not be asked for model ${reference}`, {
      hint: 'Try again; a model named by its commit needs the hub only once.',
      cause,
    });
  }
  const closed = [401, 403].includes(cause.statusCode);
  return new EpsilonflowError('MODEL_MISSING', `The hub gives out no model ${reference} (${cause.statusCode})`, {
    hint: closed
      ? 'Set HF_TOKEN to a token that may read it, and accept its terms on its page.'
      : 'Check its name and revision.',
    cause,
  });
}

const accessOf = ({ endpoint, token }: HubOptions): { hubUrl?: string; accessToken?: string } => ({
  ...(endpoint === undefined ? {} : { hubUrl: endpoint }),
  ...(token === undefined ? {} : { accessToken: token }),
});

/** Git's own digest begins with the kind and size of the object. */
const digestFor = ({ size, lfs }: ListFileEntry): Hash =>
  lfs ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);

/** Fetches one file. @throws EpsilonflowError MODEL_INVALID when what came is not what the repository holds */
async function fetchFile(blob: Blob, entry: ListFileEntry, path: string, reference: string): Promise<void> {
  const digest = digestFor(entry);
  const file = await open(path, 'wx');
  try {
    for await (const piece of blob.stream() as unknown as AsyncIterable<Uint8Array>) {
      digest.update(piece);
      await file.write(piece);
    }
  } finally {
    await file.close();
  }
  if (digest.digest('hex') === (entry.lfs?.oid ?? entry.oid)) return;
  throw new EpsilonflowError('MODEL_INVALID', `${entry.path} of model ${reference} came damaged from the hub.`, {
    hint: 'Try again.',
  });
}

async function fetchCommit(
  { repository, revision: commit }: HubReference,
  reference: string,
  folder: string,
  options: HubOptions,
): Promise<void> {
  const access = accessOf(options);
  const entries: ListFileEntry[] = [];
  for await (const entry of listFiles({ repo: repository, revision: commit, ...access })) {
    if (entry.type === 'file' && isWanted(entry.path)) entries.push(entry);
  }
  for (const entry of entries) {
    const blob = await downloadFile({ repo: repository, path: entry.path, revision: commit, ...access });
    if (blob === null) throw new EpsilonflowError('MODEL_MISSING', `Model ${reference} has no ${entry.path}`);
    await fetchFile(blob, entry, join(folder, entry.path), reference);
  }
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/**
 * Path of the folder with a model's files, fetched if it is not there. A revision that is a commit needs no network once it
 * is there; what a branch or tag stands for is asked each time.
 *
 * @param reference `organisation/name@revision`; the branch `main` without a revision
 * @throws EpsilonflowError MODEL_MISSING, MODEL_INVALID for damaged files, SERVICE_UNREACHABLE
 */
export async function fetchHubModel(reference: string, options: HubOptions): Promise<string> {
  const { repository, revision } = parseReference(reference);
  const models = join(options.cache, repository.replace('/', '--'));
  if (isCommit(revision) && (await exists(join(models, revision)))) return join(models, revision);
  try {
    const { sha: commit } = await modelInfo({
      name: repository,
      revision,
      additionalFields: ['sha'],
      ...accessOf(options),
    });
    const folder = join(models, commit);
    if (await exists(folder)) return folder;
    await mkdir(models, { recursive: true });
    const partial = await mkdtemp(join(models, 'partial-'));
    try {
      await fetchCommit({ repository, revision: commit }, reference, partial, options);
      // Another process may have been faster; both hold the same.
      await rename(partial, folder).catch(async (cause: unknown) => {
        if (!(await exists(folder))) throw cause;
      });
    } finally {
      await rm(partial, { recursive: true, force: true });
    }
    return folder;
  } catch (cause) {
    throw hubFault(reference, cause);
  }
}
