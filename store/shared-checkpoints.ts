/**
 * @file Checkpoints on the server that hosts share, sealed, so that another host goes on where a lost one was. Each
 * attempt writes under names of its own: one that wakes late replaces nothing of another's.
 */

import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { exists, listFiles, namesIn, sha256OfFile, syncPath, writeDurably } from './disk.ts';
import { getFile, partsOf, putFile } from './object-files.ts';
import type { ObjectStorage } from './objects.ts';
import { seal, unseal } from './sealing.ts';

/** What else a checkpoint says. */
type Facts = Record<string, number>;

/** The newest checkpoint of one attempt. */
interface Pointer {
  /** Below the step's name, where the files are. */
  upload: string;
  files: { path: string; sha256: string; parts: number }[];
  facts: Facts;
}

/** A folder whose checkpoints are shared. */
export interface CheckpointFolder {
  /** Of the step: on all hosts the same. */
  id: string;
  directory: string;
  checkpointDirectory: string;
}

const markFile = ({ directory }: CheckpointFolder): string => join(directory, 'shared-checkpoint');

export class SharedCheckpoints {
  private readonly objects: ObjectStorage;

  constructor(objects: ObjectStorage) {
    this.objects = objects;
  }

  /**
   * Sends the newest checkpoint of a folder; false when it was replaced meanwhile.
   *
   * @param attempt names the attempt among all of the step
   * @param allowed called when all is sent and nothing is visible; throws to keep it so
   */
  async save(folder: CheckpointFolder, attempt: string, facts: Facts, allowed: () => Promise<void>): Promise<boolean> {
    const newest = await newestCheckpoint(folder);
    if (newest === null) return false;
    const name = pointerName(folder.id, attempt);
    const before = await this.read(name);
    const upload = randomBytes(8).toString('hex');
    const files: Pointer['files'] = [];
    for (const path of newest.files) {
      const file = join(folder.checkpointDirectory, path);
      const sha256 = await sha256OfFile(file);
      const parts = await putFile(this.objects, fileName(folder.id, upload, path), file, { sealed: true });
      files.push({ path, sha256, parts: parts.length });
    }
    // Another has taken its place while it was read: that one is sent next.
    if ((await newestCheckpoint(folder))?.stamp !== newest.stamp) return false;
    const content = await seal(name, Buffer.from(JSON.stringify({ upload, files, facts } satisfies Pointer)));
    await allowed();
    await writeDurably(markFile(folder), (await this.objects.put(name, content))!, 0o600);
    if (before) await this.objects.remove(objectsOf(folder.id, before));
    return true;
  }

  /**
   * Brings the newest checkpoint of all hosts into a folder, unless it came from there. One that is damaged counts as
   * none: an earlier one of another attempt is taken.
   *
   * @returns what it says beside; null when the folder stays as it is
   */
  async restore(folder: CheckpointFolder): Promise<Facts | null> {
    const pointers = (await this.objects.list(pointerName(folder.id, ''))).sort((a, b) => b.modified - a.modified);
    const mark = await readFile(markFile(folder), 'utf8').catch(() => null);
    for (const { name, etag } of pointers) {
      if (etag === mark) return null;
      const pointer = await this.read(name);
      if (!pointer || !(await this.fetch(folder, pointer))) continue;
      await writeDurably(markFile(folder), etag, 0o600);
      return pointer.facts;
    }
    return null;
  }

  /** Removes all checkpoints of a step. */
  async drop(id: string): Promise<void> {
    const found = await this.objects.list(`checkpoints/${id}/`);
    await this.objects.remove(found.map(({ name }) => name));
  }

  /** Steps of which there are checkpoints, with their bytes. The first 32 characters of an id are those of the content key. */
  async list(): Promise<{ id: string; bytes: number }[]> {
    const sizes = new Map<string, number>();
    for (const { name, bytes } of await this.objects.list('checkpoints/')) {
      const id = name.split('/')[1]!;
      sizes.set(id, (sizes.get(id) ?? 0) + bytes);
    }
    return [...sizes].map(([id, bytes]) => ({ id, bytes }));
  }

  private async read(name: string): Promise<Pointer | null> {
    const found = await this.objects.get(name);
    const content = found && (await unseal(name, found.content));
    return content && (JSON.parse(content.toString('utf8')) as Pointer);
  }

  private async fetch(folder: CheckpointFolder, { upload, files }: Pointer): Promise<boolean> {
    const draft = join(folder.directory, `fetched.${randomBytes(4).toString('hex')}`);
    try {
      await mkdir(draft, { recursive: true, mode: 0o700 });
      for (const { path, sha256, parts } of files) {
        const file = join(draft, path);
        await mkdir(dirname(file), { recursive: true, mode: 0o700 });
        const name = fileName(folder.id, upload, path);
        if (!(await getFile(this.objects, name, file, { sealed: true, parts, mode: 0o600 }))) return false;
        if ((await sha256OfFile(file)) !== sha256) return false;
      }
      await rm(folder.checkpointDirectory, { recursive: true, force: true });
      await rename(draft, folder.checkpointDirectory);
      await syncPath(folder.directory);
      return true;
    } finally {
      await rm(draft, { recursive: true, force: true });
    }
  }
}

/** The last complete file or folder of checkpoints; what is still written is called a draft. Null when there is none. */
export async function newestCheckpoint({
  checkpointDirectory,
}: Pick<CheckpointFolder, 'checkpointDirectory'>): Promise<{ stamp: string; files: string[] } | null> {
  let newest: { name: string; time: bigint; isFolder: boolean; stamp: string } | null = null;
  for (const name of await namesIn(checkpointDirectory)) {
    if (name.endsWith('.draft')) continue;
    const found = await stat(join(checkpointDirectory, name), { bigint: true }).catch(() => null);
    if (found === null || (newest && newest.time >= found.mtimeNs)) continue;
    const stamp = `${name} ${found.ino} ${found.mtimeNs}`;
    newest = { name, time: found.mtimeNs, isFolder: found.isDirectory(), stamp };
  }
  if (newest === null) return null;
  const { name, isFolder, stamp } = newest;
  if (!isFolder) return { stamp, files: [name] };
  const inside = join(checkpointDirectory, name);
  // Removed meanwhile for a newer one.
  if (!(await exists(inside))) return null;
  return { stamp, files: (await listFiles(inside)).map((path) => `${name}/${path}`) };
}

const pointerName = (id: string, attempt: string): string => `checkpoints/${id}/attempts/${attempt}`;
const fileName = (id: string, upload: string, path: string): string => `checkpoints/${id}/${upload}/${path}`;

const objectsOf = (id: string, { upload, files }: Pointer): string[] =>
  files.flatMap(({ path, parts }) => partsOf(fileName(id, upload, path), parts));
