/**
 * @file Remembers which artifacts' files were compared with their manifests, by what the file system says of them: inode,
 * size, and times of the last changes to content and inode, to the nanosecond. What is as it was need not be read again.
 * Losing the file costs time and nothing else.
 */

import { createHash } from 'node:crypto';
import { appendFile, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ArtifactManifest, OpenedArtifact } from '../schemas/artifact.ts';
import { makePrivateFolder, sha256OfFile } from './disk.ts';

export class VerifiedFiles {
  private readonly folder: string;
  /** By content key; null until it is read. */
  private known: Promise<Map<string, string>> | null = null;

  /** @param folder of this host and user alone: who writes there decides what is taken for whole */
  constructor(folder: string) {
    this.folder = folder;
  }

  /** Whether all files hold what the manifest says; they are read unless they are as they were when last compared. */
  async areWhole({
    key,
    directory,
    manifest,
  }: Pick<OpenedArtifact, 'key' | 'directory' | 'manifest'>): Promise<boolean> {
    const state = await stateOf(directory, manifest.files);
    if (state === null) return false;
    const known = await (this.known ??= this.read());
    if (known.get(key) === state) return true;
    for (const [file, { sha256 }] of Object.entries(manifest.files)) {
      if ((await sha256OfFile(join(directory, file))) !== sha256) return false;
    }
    // Altered while they were read they would be taken for whole: then they are read again the next time.
    if ((await stateOf(directory, manifest.files)) === state) await this.remember(key, state);
    return true;
  }

  private async remember(key: string, state: string): Promise<void> {
    (await (this.known ??= this.read())).set(key, state);
    try {
      await makePrivateFolder(this.folder);
      await appendFile(this.file(), `${key} ${state}\n`, { mode: 0o600 });
    } catch {
      // On a disk that is full or read-only the files are read again the next time.
    }
  }

  private file(): string {
    return join(this.folder, 'verified.txt');
  }

  private async read(): Promise<Map<string, string>> {
    const text = await readFile(this.file(), 'utf8').catch(() => '');
    return new Map([...text.matchAll(/^(\S+) ([0-9a-f]{64})$/gm)].map(([, key, state]) => [key!, state!]));
  }
}

/** Null when a file is missing or of another size. */
async function stateOf(directory: string, files: ArtifactManifest['files']): Promise<string | null> {
  const hash = createHash('sha256');
  for (const [file, { bytes }] of Object.entries(files)) {
    const found = await stat(join(directory, file), { bigint: true }).catch(() => null);
    if (found === null || Number(found.size) !== bytes) return null;
    hash.update(`${file}\0${found.dev} ${found.ino} ${found.size} ${found.mtimeNs} ${found.ctimeNs}\n`);
  }
  return hash.digest('hex');
}
