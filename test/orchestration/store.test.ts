import { spawnSync } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { ArtifactStore } from '../../store/index.ts';
import { madeUpKey as key, madeUpManifest as manifest } from '../made-up-manifest.ts';
import { requires } from '../requires.ts';

let folder: string;
let store: ArtifactStore;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'store test '));
  store = new ArtifactStore({ shared: join(folder, 'shared'), private: join(folder, 'private') });
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function staged(content: string, label: 'dp' | 'non-private' = 'dp') {
  const stage = await store.stage('owner', label);
  await mkdir(join(stage.directory, 'sub'));
  await writeFile(join(stage.directory, 'sub', 'rows.txt'), content);
  return stage;
}

describe('the store', () => {
  it('shows nothing of a result before it is published, and all of it after', async () => {
    const stage = await staged('text');
    expect(await store.lookup(key)).toBeNull();
    await store.publish(stage, manifest());
    const found = await store.lookup(key);
    expect(found?.manifest.files['sub/rows.txt']?.bytes).toBe(4);
    expect(await store.verify(found!)).toEqual([]);
    expect(await readdir(join(folder, 'shared', 'staging'))).toEqual([]);
  });

  it('keeps what was published first', async () => {
    const [one, two] = [await staged('first'), await staged('second')];
    await store.publish(one, manifest({ metrics: { records: 1 } }));
    const kept = await store.publish(two, manifest({ metrics: { records: 2 } }));
    expect(kept.manifest.metrics).toEqual({ records: 1 });
    expect((await store.lookup(key))?.manifest.metrics).toEqual({ records: 1 });
  });

  it('gives all of many publishers at once the same result', async () => {
    const stages = await Promise.all(Array.from({ length: 8 }, (_, writer) => staged(`text ${writer}`)));
    const published = await Promise.all(stages.map((stage) => store.publish(stage, manifest())));
    expect(new Set(published.map(({ manifest: { files } }) => files['sub/rows.txt']?.sha256)).size).toBe(1);
    expect(await store.verify(published[0]!)).toEqual([]);
  });

  it('replaces a result that other ledger entries paid for', async () => {
    await store.publish(await staged('old'), manifest({ paidBy: ['entry-1'] }));
    const now = await store.publish(await staged('new text'), manifest({ paidBy: ['entry-2'] }));
    expect(now.manifest.paidBy).toEqual(['entry-2']);
    expect((await store.lookup(key))?.manifest.files['sub/rows.txt']?.bytes).toBe(8);
  });

  it('takes an artifact with a missing or shortened file for absent, and publishes over it', async () => {
    const { directory } = await store.publish(await staged('whole text'), manifest());
    await truncate(join(directory, 'sub', 'rows.txt'), 3);
    expect(await store.lookup(key)).toBeNull();
    await store.publish(await staged('whole text'), manifest());
    expect(await store.verify((await store.lookup(key))!)).toEqual([]);
  });

  it.each(
    [
      ['no JSON', '{'],
      ['null', 'null'],
      ['another key', '{"key":"other","files":{}}'],
    ].concat([
      ['no files', `{"key":"${key}"}`],
      ['a file without its size', `{"key":"${key}","files":{"rows.txt":null}}`],
    ]),
  )('takes an artifact whose manifest holds %s for absent, and publishes over it', async (_, damaged) => {
    const { directory } = await store.publish(await staged('text'), manifest());
    await writeFile(join(directory, 'manifest.json'), damaged);
    expect(await store.lookup(key)).toBeNull();
    await store.publish(await staged('text'), manifest());
    expect(await store.verify((await store.lookup(key))!)).toEqual([]);
  });

  it('takes an artifact with a file altered in place for absent, names the file, and publishes over it', async () => {
    const artifact = await store.publish(await staged('text'), manifest());
    const file = join(artifact.directory, 'sub', 'rows.txt');
    const { atime, mtime } = await stat(file);
    await writeFile(file, 'TEXT');
    await utimes(file, atime, mtime);
    for (const each of [store, new ArtifactStore(store.roots)]) expect(await each.lookup(key)).toBeNull();
    expect(await store.verify(artifact)).toEqual([{ file: 'sub/rows.txt', problem: 'altered' }]);
    await store.publish(await staged('text'), manifest());
    expect(await store.verify((await store.lookup(key))!)).toEqual([]);
  });

  it('reads the files of an artifact that was copied, once', async () => {
    await store.publish(await staged('text'), manifest());
    const copy = join(folder, 'copy');
    await cp(join(folder, 'shared'), copy, { recursive: true });
    const roots = { shared: copy, private: join(folder, 'other') };
    expect(await new ArtifactStore(roots).lookup(key)).not.toBeNull();
    const lines = await readFile(join(folder, 'other', 'verified.txt'), 'utf8');
    expect(await new ArtifactStore(roots).lookup(key)).not.toBeNull();
    expect(await readFile(join(folder, 'other', 'verified.txt'), 'utf8')).toBe(lines);
    expect(lines.split('\n')).toHaveLength(2);
  });

  it('keeps non-private results where only their owner can look', async () => {
    const { directory } = await store.publish(await staged('text', 'non-private'), manifest({ label: 'non-private' }));
    expect(directory.startsWith(join(folder, 'private'))).toBe(true);
    expect((await stat(join(folder, 'private'))).mode & 0o777).toBe(0o700);
    expect((await store.lookup(key))?.directory).toBe(directory);
  });

  it('sweeps what dead attempts had staged and leaves the living alone', async () => {
    await store.stage('dead', 'dp');
    const living = await store.stage('living', 'dp');
    expect(await store.sweep((owner) => Promise.resolve(owner === 'living'))).toBe(1);
    expect((await stat(living.directory)).isDirectory()).toBe(true);
  });

  it.runIf(requires('root', 'a full disk under the store'))(
    'says that the disk is full, leaves nothing half-written, and works once there is space',
    async ({ skip }) => {
      const disk = join(folder, 'disk');
      await mkdir(disk);
      const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', disk]).status === 0;
      skip(!mounted, 'this container may not mount a small disk');
      try {
        store = new ArtifactStore({ shared: join(disk, 'shared'), private: join(disk, 'private') });
        const stage = await staged('text');
        await writeFile(join(disk, 'filler'), Buffer.alloc(400_000)).catch(() => undefined);
        const error = await store.publish(stage, manifest()).catch((reason: unknown) => reason);
        expect(error).toBeInstanceOf(EpsilonflowError);
        expect(error).toMatchObject({ code: 'DISK_FULL', retryable: true });
        expect((error as EpsilonflowError).hint).toMatch(/Free some space/);
        expect(await store.lookup(key)).toBeNull();
        await rm(join(disk, 'filler'));
        await store.publish(stage, manifest());
        expect(await store.verify((await store.lookup(key))!)).toEqual([]);
      } finally {
        spawnSync('umount', [disk]);
      }
    },
  );
});
