/**
 * @file Content-addressed artifacts on a local disk. Artifacts labelled `public` or `dp` lie in the shared root, all
 * others in the private root of mode 0700. A result is staged beside its destination, synced, given its manifest
 * last, and published by one rename: the first to publish wins, and nothing half-written is ever visible.
 */

import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ArtifactManifest, OpenedArtifact } from '../schemas/artifact.ts';
import { failpoint } from '../schemas/failpoints.ts';
import type { Label } from '../schemas/plan.ts';
import {
  exists,
  listFiles,
  makePrivateFolder,
  namesIn,
  naming,
  sha256OfFile,
  sizeOf,
  syncPath,
  writeDurably,
} from './disk.ts';
import { VerifiedFiles } from './verified-files.ts';

const manifestFile = 'manifest.json';

export interface StoreRoots {
  shared: string;
  private: string;
}

/** A result that is being written; nobody else sees it. */
export interface Stage {
  root: string;
  /** Where the step writes its files. */
  directory: string;
}

export interface Damage {
  /** Relative to the artifact's folder. */
  file: string;
  problem: 'missing' | 'wrong size' | 'altered';
}

/** What the store holds under a content key, complete or not. */
export interface StoredArtifact {
  key: string;
  bytes: number;
  /** Null where the artifact is damaged: nothing finds it. */
  manifest: ArtifactManifest | null;
}

export type UnpublishedManifest = Omit<ArtifactManifest, 'files' | 'createdAt'>;

/** Finished results by content key. */
export interface Artifacts {
  /** The complete artifact of a content key, or null: absent, or its manifest or a file is not as it should be. */
  lookup(key: string): Promise<OpenedArtifact | null>;
  /** Reads every file of it again and compares it with the manifest; null where no manifest can be read. */
  damagesOf(key: string): Promise<Damage[] | null>;
  /** An empty folder for one attempt's result. */
  stage(owner: string, label: Label): Promise<Stage>;
  /**
   * Makes a staged result visible under its key and returns what lies there afterwards: this result, or the one that
   * another attempt published first. An artifact that other ledger entries paid for is replaced: what a run uses must be
   * what its own ledger accounts for.
   */
  publish(stage: Stage, unpublished: UnpublishedManifest): Promise<OpenedArtifact>;
  discard(stage: Stage): Promise<void>;
  /** All that lies in the store but under the given keys, damaged results too. */
  list(but?: ReadonlySet<string>): Promise<StoredArtifact[]>;
  /** Moves a result out of sight, for a sweep to remove; the answer puts it back unless another lies there by then. */
  moveAside(key: string): Promise<() => Promise<void>>;
  /** Removes stages whose owner is not among the living, and what was set aside. Returns how many went. */
  sweep(isAlive: (owner: string) => Promise<boolean>): Promise<number>;
}

export class ArtifactStore implements Artifacts {
  readonly roots: StoreRoots;
  private readonly verified: VerifiedFiles;

  constructor(roots: StoreRoots) {
    this.roots = roots;
    this.verified = new VerifiedFiles(roots.private);
  }

  async lookup(key: string): Promise<OpenedArtifact | null> {
    for (const root of [this.roots.shared, this.roots.private]) {
      const opened = await this.open(folderOf(root, key), key);
      if (opened) return opened;
    }
    return null;
  }

  private async open(directory: string, key: string): Promise<OpenedArtifact | null> {
    const manifest = await readManifest(directory, key);
    if (manifest === null) return null;
    const opened = { nodeId: manifest.nodeId, key, directory, manifest };
    return (await this.verified.areWhole(opened)) ? opened : null;
  }

  /** What is said of the content of a key, without a look at the files themselves. */
  async manifestOf(key: string): Promise<ArtifactManifest | null> {
    for (const root of [this.roots.shared, this.roots.private]) {
      const manifest = await readManifest(folderOf(root, key), key);
      if (manifest !== null) return manifest;
    }
    return null;
  }

  /** Reads every file again and compares it with the manifest; empty when all is well. */
  async verify(artifact: OpenedArtifact): Promise<Damage[]> {
    const damages: Damage[] = [];
    for (const [file, expected] of Object.entries(artifact.manifest.files)) {
      const path = join(artifact.directory, file);
      if (!(await exists(path))) damages.push({ file, problem: 'missing' });
      else if ((await stat(path)).size !== expected.bytes) damages.push({ file, problem: 'wrong size' });
      else if ((await sha256OfFile(path)) !== expected.sha256) damages.push({ file, problem: 'altered' });
    }
    return damages;
  }

  async damagesOf(key: string): Promise<Damage[] | null> {
    for (const root of [this.roots.shared, this.roots.private]) {
      const directory = folderOf(root, key);
      const manifest = await readManifest(directory, key);
      if (manifest !== null) return this.verify({ nodeId: manifest.nodeId, key, directory, manifest });
    }
    return null;
  }

  /** On the file system of its destination. */
  async stage(owner: string, label: Label): Promise<Stage> {
    const root = label === 'non-private' ? this.roots.private : this.roots.shared;
    return naming(root, async () => {
      if (root === this.roots.private) await makePrivateFolder(root);
      const directory = join(root, 'staging', `${owner}.${randomBytes(4).toString('hex')}`);
      await mkdir(directory, { recursive: true, ...(root === this.roots.private ? { mode: 0o700 } : {}) });
      return { root, directory };
    });
  }

  /** @throws EpsilonflowError DISK_FULL, STORE_READ_ONLY */
  async publish(stage: Stage, unpublished: UnpublishedManifest): Promise<OpenedArtifact> {
    failpoint('publish: asked');
    return this.reveal(stage, await this.describe(stage, unpublished));
  }

  /** Brings the files to disk and gives them their manifest. */
  async describe(stage: Stage, unpublished: UnpublishedManifest): Promise<ArtifactManifest> {
    return naming(stage.root, async () => {
      const files: ArtifactManifest['files'] = {};
      for (const file of await listFiles(stage.directory)) {
        const path = join(stage.directory, file);
        await syncPath(path);
        files[file] = { bytes: (await stat(path)).size, sha256: await sha256OfFile(path) };
      }
      const manifest: ArtifactManifest = { ...unpublished, files, createdAt: new Date().toISOString() };
      await this.enclose(stage, manifest);
      failpoint('publish: described');
      return manifest;
    });
  }

  enclose(stage: Stage, manifest: ArtifactManifest): Promise<void> {
    return writeDurably(join(stage.directory, manifestFile), JSON.stringify(manifest, null, 2) + '\n');
  }

  /** Publishes what has its manifest, as `publish` does. */
  reveal(stage: Stage, manifest: ArtifactManifest): Promise<OpenedArtifact> {
    return naming(stage.root, () => this.move(stage, manifest));
  }

  private async move(stage: Stage, manifest: ArtifactManifest): Promise<OpenedArtifact> {
    const destination = folderOf(stage.root, manifest.key);
    await mkdir(join(destination, '..'), { recursive: true });
    for (;;) {
      const present = await this.lookup(manifest.key);
      if (present && isPaidBy(present.manifest, manifest.paidBy)) {
        await this.discard(stage);
        return present;
      }
      for (const root of [this.roots.shared, this.roots.private]) await this.setAside(root, manifest);
      // Another attempt may have been faster by a moment.
      if (!(await renameUnless('ENOTEMPTY', stage.directory, destination))) continue;
      failpoint('publish: renamed');
      await syncPath(join(destination, '..'));
      return { nodeId: manifest.nodeId, key: manifest.key, directory: destination, manifest };
    }
  }

  /**
   * Moves an incomplete or superseded artifact out of the way; the next sweep removes it. What turns out to be good,
   * because another attempt replaced it between the look and the move, is put back.
   */
  private async setAside(root: string, manifest: ArtifactManifest): Promise<void> {
    const folder = folderOf(root, manifest.key);
    const isGood = (artifact: OpenedArtifact | null): boolean =>
      artifact !== null && isPaidBy(artifact.manifest, manifest.paidBy);
    if (!(await exists(folder)) || isGood(await this.open(folder, manifest.key))) return;
    await mkdir(join(root, 'staging'), { recursive: true });
    const aside = join(root, 'staging', `replaced-${manifest.key}.${randomBytes(4).toString('hex')}`);
    if (!(await renameUnless('ENOENT', folder, aside))) return;
    if (isGood(await this.open(aside, manifest.key))) await renameUnless('ENOTEMPTY', aside, folder);
  }

  async list(but: ReadonlySet<string> = new Set()): Promise<StoredArtifact[]> {
    const found: StoredArtifact[] = [];
    for (const root of [this.roots.shared, this.roots.private]) {
      for (const start of await namesIn(join(root, 'artifacts'))) {
        for (const key of await namesIn(join(root, 'artifacts', start))) {
          if (but.has(key)) continue;
          const directory = folderOf(root, key);
          const { manifest = null } = (await this.open(directory, key)) ?? {};
          found.push({ key, manifest, bytes: await sizeOf(directory) });
        }
      }
    }
    return found;
  }

  async moveAside(key: string): Promise<() => Promise<void>> {
    const moved: [from: string, to: string][] = [];
    for (const root of [this.roots.shared, this.roots.private]) {
      const directory = folderOf(root, key);
      if (!(await exists(directory))) continue;
      await mkdir(join(root, 'staging'), { recursive: true });
      const aside = join(root, 'staging', `removed-${key}.${randomBytes(4).toString('hex')}`);
      if (await renameUnless('ENOENT', directory, aside)) moved.push([aside, directory]);
    }
    return async () => {
      for (const [from, to] of moved) await renameUnless('ENOTEMPTY', from, to);
    };
  }

  async discard(stage: Stage): Promise<void> {
    await rm(stage.directory, { recursive: true, force: true });
  }

  async sweep(isAlive: (owner: string) => Promise<boolean>): Promise<number> {
    let removed = 0;
    for (const root of [this.roots.shared, this.roots.private]) {
      for (const name of await namesIn(join(root, 'staging'))) {
        if (await isAlive(name.slice(0, name.lastIndexOf('.')))) continue;
        await rm(join(root, 'staging', name), { recursive: true, force: true });
        removed += 1;
      }
    }
    return removed;
  }
}

/** Whether the content rests on just these ledger entries (sorted ids; none: on no private data). */
export const isPaidBy = (manifest: Pick<ArtifactManifest, 'paidBy'>, entryIds: readonly string[] = []): boolean =>
  (manifest.paidBy ?? []).join('\n') === entryIds.join('\n');

const folderOf = (root: string, key: string): string => join(root, 'artifacts', key.slice(0, 2), key);

async function readManifest(directory: string, key: string): Promise<ArtifactManifest | null> {
  let manifest: unknown;
  try {
    manifest = JSON.parse(await readFile(join(directory, manifestFile), 'utf8'));
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR' || error instanceof SyntaxError) return null;
    throw error;
  }
  return isManifestOf(manifest, key) ? manifest : null;
}

/** Whether a manifest is that of the key and lists its files: one that was damaged or cut may still be valid JSON. */
export function isManifestOf(value: unknown, key: string): value is ArtifactManifest {
  const { key: named, files } = (value ?? {}) as Partial<ArtifactManifest>;
  return named === key && typeof files === 'object' && files !== null && Object.values(files).every(Boolean);
}

/** Renames a folder; false when the system refuses for the given reason. */
async function renameUnless(reason: 'ENOENT' | 'ENOTEMPTY', from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === reason || (reason === 'ENOTEMPTY' && code === 'EEXIST')) return false;
    throw error;
  }
}
