import { readdirSync, readFileSync, statSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Plan } from '../../schemas/plan.ts';
import { planDigest } from '../../schemas/plan-digest.ts';
import type { StoredArtifact } from '../../store/artifacts.ts';
import { findGarbage, openStore, removeGarbage, type Store, type UnpublishedManifest } from '../../store/index.ts';
import { ObjectStorage } from '../../store/objects.ts';
import { PlanFolder } from '../../store/plans.ts';
import { SharedPlans } from '../../store/shared-plans.ts';
import { startObjectServer, type ObjectServer } from '../object-server.ts';
import { madeUpKey as key, madeUpManifest as manifest } from '../made-up-manifest.ts';
import { requires } from '../requires.ts';

const secret = 'a secret that the workers of this test share';

describe.runIf(requires('object-storage', 'the store that hosts share'))('a store that hosts share', () => {
  let server: ObjectServer;
  let folder: string;
  let objects: ObjectStorage;
  let [here, there]: Store[] = [];
  let environment: NodeJS.ProcessEnv;

  /** The store as a host with a state folder of its own sees it. */
  function host(name: string): Store {
    process.env['EPSILONFLOW_HOME'] = join(folder, name);
    return openStore();
  }

  async function publish(store: Store, text: string, changes: Partial<UnpublishedManifest> = {}) {
    const stage = await store.artifacts.stage('owner', changes.label ?? 'dp');
    await mkdir(join(stage.directory, 'sub'));
    await writeFile(join(stage.directory, 'sub', 'rows.txt'), text);
    await writeFile(join(stage.directory, 'empty'), '');
    return store.artifacts.publish(stage, manifest(changes));
  }

  async function textAt(store: Store): Promise<string | null> {
    const found = await store.lookup(key);
    return found && readFile(join(found.directory, 'sub', 'rows.txt'), 'utf8');
  }

  beforeAll(async () => (server = await startObjectServer()));
  afterAll(() => server?.remove());

  beforeEach(async () => {
    environment = { ...process.env };
    folder = await mkdtemp(join(tmpdir(), 'shared store '));
    const url = `s3://results/test-${Math.random().toString(36).slice(2)}`;
    Object.assign(process.env, server.environment, { EPSILONFLOW_STORE_URL: url, EPSILONFLOW_RUN_SECRET: secret });
    objects = new ObjectStorage(url);
    [here, there] = [host('here'), host('there')];
  });
  afterEach(async () => {
    process.env = environment;
    await rm(folder, { recursive: true, force: true });
  });

  const manifestName = `artifacts/${key}/manifest`;
  const rowsName = async (): Promise<string> =>
    (await objects.list('artifacts/')).find(({ name }) => name.endsWith('sub/rows.txt.0'))!.name;

  it('shows a result to other hosts once it is published, whole', async () => {
    const stage = await here!.artifacts.stage('owner', 'dp');
    expect(await there!.lookup(key)).toBeNull();
    await here!.artifacts.discard(stage);
    await publish(here!, 'text');
    const found = (await there!.lookup(key))!;
    expect(found.directory.startsWith(join(folder, 'there'))).toBe(true);
    expect(found.manifest).toEqual((await here!.lookup(key))!.manifest);
    expect(await textAt(there!)).toBe('text');
    expect(await there!.artifacts.damagesOf(key)).toEqual([]);
  });

  it('is fetched once by a host', async () => {
    await publish(here!, 'text');
    const file = join((await there!.lookup(key))!.directory, 'sub', 'rows.txt');
    const { ino } = statSync(file);
    expect(await host('there').lookup(key)).not.toBeNull();
    expect(statSync(file).ino).toBe(ino);
  });

  it('keeps what was published first, whoever comes late', async () => {
    await publish(here!, 'first', { paidBy: ['entry-1'] });
    const kept = await publish(there!, 'late', { paidBy: ['entry-1'], metrics: { records: 2 } });
    expect(kept.manifest.metrics).toEqual({ records: 1 });
    expect([await textAt(here!), await textAt(there!)]).toEqual(['first', 'first']);
    expect((await objects.list('artifacts/')).length).toBe(3);
  });

  it('refuses the put of a manifest by an attempt that had looked before another published', async () => {
    const late = objects.put(manifestName, Buffer.from('late'), 'absent');
    await late;
    expect(await objects.put(manifestName, Buffer.from('later'), 'absent')).toBeNull();
    expect((await objects.get(manifestName))!.content.toString()).toBe('late');
  });

  it('gives all of many publishers on many hosts the same result', async () => {
    const hosts = ['one', 'two', 'three', 'four'].flatMap((name) => [host(name), host(name)]);
    const published = await Promise.all(hosts.map((store, writer) => publish(store, `text ${writer}`)));
    expect(new Set(published.map(({ manifest: { files } }) => files['sub/rows.txt']?.sha256)).size).toBe(1);
    expect(new Set(await Promise.all(hosts.map(textAt))).size).toBe(1);
    expect((await objects.list('artifacts/')).length).toBe(3);
  });

  it('replaces a result that other ledger entries paid for, on all hosts', async () => {
    await publish(here!, 'old', { paidBy: ['entry-1'] });
    expect(await textAt(there!)).toBe('old');
    await publish(here!, 'new', { paidBy: ['entry-2'] });
    expect([await textAt(here!), await textAt(there!)]).toEqual(['new', 'new']);
    expect((await objects.list('artifacts/')).length).toBe(3);
  });

  it.each([
    ['altered', (name: string) => objects.put(name, Buffer.from('TEXT'))],
    ['cut', (name: string) => objects.put(name, Buffer.from('te'))],
    ['missing', (name: string) => objects.remove([name])],
  ])('takes a result with an object that is %s for absent everywhere, and publishes over it', async (_, damage) => {
    await publish(here!, 'text');
    await damage(await rowsName());
    expect([await textAt(here!), await textAt(there!)]).toEqual([null, null]);
    await publish(there!, 'text');
    expect([await textAt(here!), await textAt(there!)]).toEqual(['text', 'text']);
  });

  it('takes a result that decayed on the disk of the server for absent everywhere once a host has read it', async () => {
    await publish(here!, 'text');
    const file = join(server.folder, objects.url.slice('s3://results/'.length), await rowsName());
    await writeFile(file, 'TEXT', { flag: 'r+' });
    expect(await textAt(there!)).toBeNull();
    expect(await textAt(here!)).toBeNull();
    await publish(here!, 'text');
    expect(await textAt(there!)).toBe('text');
  });

  it.each([
    ['no JSON', '{'],
    ['null', 'null'],
    ['another key', '{"manifest":{"key":"other","files":{}},"upload":"x","parts":{}}'],
    ['no parts', `{"manifest":{"key":"${key}","files":{"a":{}}},"upload":"x","parts":{}}`],
  ])('takes a result whose manifest holds %s for absent, and publishes over it', async (_, damaged) => {
    await publish(here!, 'text');
    await objects.put(manifestName, Buffer.from(damaged));
    expect([await textAt(here!), await textAt(there!)]).toEqual([null, null]);
    await publish(there!, 'text');
    expect(await textAt(here!)).toBe('text');
  });

  it('sends what is non-private sealed, for hosts with the same secret', async () => {
    const summary = { text: 'a planted sentence' };
    await publish(here!, 'a planted sentence', { label: 'non-private', summary });
    for (const { name } of await objects.list('')) {
      const { content } = (await objects.get(name))!;
      expect(content.includes('planted'), name).toBe(false);
      expect(content.subarray(0, 4).toString(), name).toBe('EFS1');
    }
    expect(await textAt(there!)).toBe('a planted sentence');
    const found = (await there!.lookup(key))!;
    expect(found.manifest.summary).toEqual(summary);
    expect(found.directory.startsWith(join(folder, 'there', 'store', 'private'))).toBe(true);
    expect(statSync(join(found.directory, 'sub', 'rows.txt')).mode & 0o777).toBe(0o600);
    process.env['EPSILONFLOW_RUN_SECRET'] = 'another secret, as long as the one before';
    expect(await host('stranger').lookup(key)).toBeNull();
    delete process.env['EPSILONFLOW_RUN_SECRET'];
    await expect(host('stranger').lookup(key)).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
  });

  it('opens nothing sealed that was altered or put in the place of something else', async () => {
    await publish(here!, 'one', { label: 'non-private' });
    const name = await rowsName();
    const sealed = (await objects.get(name))!.content;
    const listed = await objects.list('artifacts/');
    const other = listed.find(({ name: each }) => each.endsWith('empty.0'))!.name;
    await objects.put(other, sealed);
    expect(await textAt(there!)).toBeNull();
  });

  it('has the plans of all hosts', async () => {
    const made = { nodes: [], datasets: {}, privacy: {} } as unknown as Plan;
    const plan = { ...made, digest: planDigest(made) };
    await here!.savePlan(plan);
    expect(await there!.loadPlan(plan.digest)).toEqual(plan);
    await objects.put(`plans/${'ef'.repeat(32)}.json`, Buffer.from(JSON.stringify(plan)));
    await expect(there!.loadPlan('ef'.repeat(32))).rejects.toMatchObject({ code: 'PLAN_ALTERED' });
  });

  it('lists no plan for removal that a run may be about to start with', async () => {
    const made = { nodes: [], datasets: {}, privacy: {} } as unknown as Plan;
    const plan = { ...made, digest: planDigest(made) };
    await there!.savePlan(plan);
    const folderHere = new PlanFolder(join(folder, 'here', 'plans'));
    await here!.loadPlan(plan.digest);
    expect(await new SharedPlans(folderHere, objects).list()).toEqual([]);
    await sleep(1500);
    const soon = new SharedPlans(folderHere, objects, 500);
    expect(await soon.list()).toMatchObject([{ digest: plan.digest }]);
    await there!.savePlan(plan);
    expect(await new SharedPlans(folderHere, objects, 1500).list()).toEqual([]);
  });

  it('gives a run number once', async () => {
    const run = { name: 'reviews', number: 1, planDigest: 'cd'.repeat(32) };
    expect(await here!.runs.claim(run)).toBe(true);
    process.env['EPSILONFLOW_HOME'] = join(folder, 'there');
    expect(await there!.runs.claim(run)).toBe(false);
    expect(await there!.runs.elsewhere()).toEqual([run]);
  });

  const keysOf = (found: readonly StoredArtifact[]): string[] => found.map((artifact) => artifact.key);

  it('is tidied for all hosts, but for what a run has come to want meanwhile', async () => {
    const other = 'cd'.repeat(32);
    await publish(here!, 'wanted');
    await publish(here!, 'late', { key: other });
    await publish(here!, 'garbage', { key: 'ef'.repeat(32) });
    expect(await there!.lookup('ef'.repeat(32))).not.toBeNull();
    const wanted = { keys: new Set([key]), plans: new Set<string>() };
    const garbage = await findGarbage(here!, wanted, { paid: false });
    expect(keysOf(garbage.results).sort()).toEqual([other, 'ef'.repeat(32)]);
    expect(garbage.results[0]!.bytes).toBeGreaterThan(0);
    await removeGarbage(here!, garbage, () => Promise.resolve({ ...wanted, keys: new Set([key, other]) }));
    for (const store of [here!, there!]) {
      expect(await store.lookup(key)).not.toBeNull();
      expect(await store.lookup(other)).not.toBeNull();
      expect(await store.lookup('ef'.repeat(32))).toBeNull();
    }
    expect((await objects.list('artifacts/')).length).toBe(6);
    const copies = await findGarbage(there!, { ...wanted, keys: new Set([key, other]) }, { paid: false });
    expect(keysOf(copies.results)).toEqual(['ef'.repeat(32)]);
    await removeGarbage(there!, copies, () => Promise.resolve({ ...wanted, keys: new Set([key, other]) }));
    const artifacts = join(folder, 'there', 'store', 'shared', 'artifacts');
    expect(
      readdirSync(artifacts)
        .filter((start) => readdirSync(join(artifacts, start)).length > 0)
        .sort(),
    ).toEqual(['ab', 'cd']);
  });

  it('keeps a published file to the byte when it is larger than a part', async () => {
    const text = 'x'.repeat(33 * 1024 * 1024);
    await publish(here!, text, { label: 'non-private' });
    const found = (await there!.lookup(key))!;
    expect(readFileSync(join(found.directory, 'sub', 'rows.txt')).length).toBe(text.length);
  });

  it.each([
    ['bad credentials', { AWS_SECRET_ACCESS_KEY: 'wrong' }, 'STORE_REFUSED', 'was refused (SignatureDoesNotMatch)'],
    ['no bucket', { EPSILONFLOW_STORE_URL: 's3://nowhere/x' }, 'STORE_REFUSED', 'there is no bucket nowhere'],
    ['a server that is away', { AWS_ENDPOINT_URL_S3: 'http://127.0.0.1:9' }, 'SERVICE_UNREACHABLE', 'ECONNREFUSED'],
  ])('says what is wrong: %s', async (_, changes, code, message) => {
    Object.assign(process.env, changes);
    const error = await host('here')
      .lookup(key)
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code, message: expect.stringContaining(message) as string });
  });

  it.each(['http://results', 's3://', 's3://ab', 's3://Results/x'])('refuses the address %s', (url) => {
    process.env['EPSILONFLOW_STORE_URL'] = url;
    expect(() => host('here')).toThrow(/names no store/);
  });
});
