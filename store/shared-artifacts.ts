/**
 * @file Artifacts that several hosts share, on an S3-compatible server. A result's files are sent under a name of their
 * own; its manifest follows, by a put that fails where one is: the first to publish wins, and whoever comes late changes
 * nothing. Hosts keep copies of what they read in their own store and ask the server each time whether they still hold.
 * What is non-private is sealed on its way.
 */

import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ArtifactManifest, OpenedArtifact } from '../schemas/artifact.ts';
import { failpoint } from '../schemas/failpoints.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Label } from '../schemas/plan.ts';
import { isManifestOf, isPaidBy, type Artifacts, type ArtifactStore, type Damage } from './artifacts.ts';
import type { Stage, StoredArtifact, UnpublishedManifest } from './artifacts.ts';
import { naming, sha256OfFile } from './disk.ts';
import { getFile, partsOf, putFile } from './object-files.ts';
import type { ObjectStorage, StoredObject } from './objects.ts';
import { isSealed, seal, unseal } from './sealing.ts';

/** What lies on the server as a result's manifest. */
interface SharedManifest {
  manifest: ArtifactManifest;
  /** Below the artifact's name, where its files are. */
  upload: string;
  /** Tags of the objects that each file was cut into. */
  parts: Record<string, string[]>;
}

interface Found {
  etag: string;
  /** Null where it can't be read: damaged, or sealed with another secret. */
  shared: SharedManifest | null;
}

/** Files without a manifest may still be on their way so long, milliseconds. */
const uploadTime = 24 * 3600_000;

/** A put that fails means that another has published: one look later its result is there. */
const mostRounds = 20;

export class SharedArtifacts implements Artifacts {
  private readonly here: ArtifactStore;
  private readonly objects: ObjectStorage;
  /** Objects of results that were moved aside, by key. */
  private readonly aside = new Map<string, string[]>();

  /** @param here copies, and what is not published yet */
  constructor(here: ArtifactStore, objects: ObjectStorage) {
    this.here = here;
    this.objects = objects;
  }

  async lookup(key: string): Promise<OpenedArtifact | null> {
    const found = await this.find(key);
    return found && this.open(found);
  }

  async damagesOf(key: string): Promise<Damage[] | null> {
    return (await this.lookup(key)) && this.here.damagesOf(key);
  }

  stage(owner: string, label: Label): Promise<Stage> {
    return this.here.stage(owner, label);
  }

  discard(stage: Stage): Promise<void> {
    return this.here.discard(stage);
  }

  /** @throws EpsilonflowError DISK_FULL, STORE_READ_ONLY, STORE_REFUSED, SERVICE_UNREACHABLE */
  async publish(stage: Stage, unpublished: UnpublishedManifest): Promise<OpenedArtifact> {
    failpoint('publish: asked');
    const manifest = await this.here.describe(stage, unpublished);
    const name = manifestName(manifest.key);
    let sent: SharedManifest | null = null;
    for (let round = 0; round < mostRounds; round += 1) {
      const found = await this.find(manifest.key);
      const present = found && (await this.open(found));
      if (present && isPaidBy(present.manifest, manifest.paidBy)) {
        if (sent) await this.objects.remove(objectsOf(sent));
        await this.here.discard(stage);
        return present;
      }
      sent ??= await this.send(stage, manifest);
      failpoint('publish: sent');
      const condition = found ? { etag: found.etag } : 'absent';
      if ((await this.objects.put(name, await this.contentOf(sent), condition)) === null) continue;
      failpoint('publish: shared');
      if (found?.shared) await this.objects.remove(objectsOf(found.shared));
      return this.keep(stage, manifest);
    }
    throw new EpsilonflowError('SERVICE_UNREACHABLE', `The store ${this.objects.url} refuses ${name} and has none.`, {
      hint: 'Its server must keep conditional puts (If-None-Match and If-Match).',
    });
  }

  private async send(stage: Stage, manifest: ArtifactManifest): Promise<SharedManifest> {
    const sealed = manifest.label === 'non-private';
    const upload = randomBytes(8).toString('hex');
    const parts: SharedManifest['parts'] = {};
    for (const file of Object.keys(manifest.files)) {
      const name = fileName(manifest.key, upload, file);
      parts[file] = await putFile(this.objects, name, join(stage.directory, file), { sealed });
    }
    return { manifest, upload, parts };
  }

  private async contentOf(shared: SharedManifest): Promise<Buffer> {
    const content = Buffer.from(JSON.stringify(shared));
    const { key, label } = shared.manifest;
    return label === 'non-private' ? seal(manifestName(key), content) : content;
  }

  /** Makes a staged copy of what the server has this host's copy. */
  private async keep(stage: Stage, manifest: ArtifactManifest): Promise<OpenedArtifact> {
    const present = await this.here.lookup(manifest.key);
    if (present && !isSame(present.manifest, manifest)) await this.here.moveAside(manifest.key);
    return this.here.reveal(stage, manifest);
  }

  private async find(key: string): Promise<Found | null> {
    const name = manifestName(key);
    const found = await this.objects.get(name);
    if (!found) return null;
    const content = isSealed(found.content) ? await unseal(name, found.content) : found.content;
    return { etag: found.etag, shared: content && parseManifest(content, key) };
  }

  /** The copy of this host, fetched when it is not there; null when an object is missing or not as it was published. */
  private async open({ shared, etag }: Found): Promise<OpenedArtifact | null> {
    if (shared === null) return null;
    const { manifest } = shared;
    if (!this.isWhole(shared, await this.objects.list(`${folderName(manifest.key)}${shared.upload}/`))) return null;
    const present = await this.here.lookup(manifest.key);
    if (present && isSame(present.manifest, manifest)) return present;
    return this.fetch(shared, etag);
  }

  private isWhole(shared: SharedManifest, listed: readonly StoredObject[]): boolean {
    const tags = new Map(listed.map(({ name, etag }) => [name, etag]));
    const wanted = Object.values(shared.parts).flat();
    return objectsOf(shared).every((name, index) => tags.get(name) === wanted[index]);
  }

  private async fetch(shared: SharedManifest, etag: string): Promise<OpenedArtifact | null> {
    const { manifest } = shared;
    const stage = await this.here.stage(`fetched-${process.pid}`, manifest.label);
    try {
      return await naming(stage.root, async () => {
        for (const file of Object.keys(manifest.files)) {
          if (await this.fetchFile(shared, file, stage)) continue;
          // All hosts must see that it is damaged, those with a copy too: it is made again.
          await this.objects.put(manifestName(manifest.key), Buffer.from('damaged'), { etag });
          return null;
        }
        await this.here.enclose(stage, manifest);
        return this.keep(stage, manifest);
      });
    } finally {
      await this.here.discard(stage);
    }
  }

  private async fetchFile({ manifest, upload, parts }: SharedManifest, file: string, stage: Stage): Promise<boolean> {
    const path = join(stage.directory, file);
    const sealed = manifest.label === 'non-private';
    await mkdir(dirname(path), { recursive: true });
    const name = fileName(manifest.key, upload, file);
    const options = { sealed, parts: parts[file]!.length, mode: sealed ? 0o600 : 0o644 };
    if (!(await getFile(this.objects, name, path, options))) return false;
    return (await sha256OfFile(path)) === manifest.files[file]!.sha256;
  }

  async list(but: ReadonlySet<string> = new Set()): Promise<StoredArtifact[]> {
    const found: StoredArtifact[] = [];
    const byKey = new Map<string, StoredObject[]>();
    for (const object of await this.objects.list('artifacts/')) {
      const key = object.name.split('/')[1]!;
      byKey.set(key, [...(byKey.get(key) ?? []), object]);
    }
    for (const [key, objects] of byKey) {
      if (but.has(key)) continue;
      const manifest = (await this.find(key))?.shared?.manifest ?? null;
      const newest = Math.max(...objects.map(({ modified }) => modified));
      if (manifest === null && Date.now() - newest < uploadTime) continue;
      found.push({ key, manifest, bytes: objects.reduce((sum, { bytes }) => sum + bytes, 0) });
    }
    // Copies of what the server has no more.
    found.push(...(await this.here.list(new Set([...but, ...byKey.keys()]))));
    return found;
  }

  async moveAside(key: string): Promise<() => Promise<void>> {
    const name = manifestName(key);
    const found = await this.objects.get(name);
    await this.objects.remove([name]);
    this.aside.set(key, await this.namesOf(key));
    const copyBack = await this.here.moveAside(key);
    return async () => {
      this.aside.delete(key);
      if (found) await this.objects.put(name, found.content, 'absent');
      await copyBack();
    };
  }

  async sweep(isAlive: (owner: string) => Promise<boolean>): Promise<number> {
    for (const names of this.aside.values()) await this.objects.remove(names);
    this.aside.clear();
    return this.here.sweep(isAlive);
  }

  private async namesOf(key: string): Promise<string[]> {
    const listed = await this.objects.list(folderName(key));
    return listed.map(({ name }) => name).filter((name) => name !== manifestName(key));
  }
}

const folderName = (key: string): string => `artifacts/${key}/`;
const manifestName = (key: string): string => `${folderName(key)}manifest`;
const fileName = (key: string, upload: string, file: string): string => `${folderName(key)}${upload}/${file}`;

const objectsOf = ({ manifest, upload, parts }: SharedManifest): string[] =>
  Object.entries(parts).flatMap(([file, tags]) => partsOf(fileName(manifest.key, upload, file), tags.length));

/** Null where it is damaged. */
function parseManifest(content: Buffer, key: string): SharedManifest | null {
  try {
    const { manifest, upload, parts } = JSON.parse(content.toString('utf8')) as Partial<SharedManifest>;
    if (!isManifestOf(manifest, key) || !upload || !parts) return null;
    return Object.keys(manifest.files).every((file) => Array.isArray(parts[file])) ? { manifest, upload, parts } : null;
  } catch {
    return null;
  }
}

/** Whether a copy is of this publication, to the byte. */
const isSame = (copy: ArtifactManifest, manifest: ArtifactManifest): boolean =>
  JSON.stringify(copy) === JSON.stringify(manifest);
