import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { disposeTree } from '../../learning/compile/index.ts';
import { fetchHubModel } from '../../learning/formats/hub.ts';
import { modelDigest } from '../../learning/formats/model-digest.ts';
import { readModel } from '../../learning/formats/model.ts';
import { serveHub, type HubModel, type HubServer } from './hub-server.ts';

const fixture = new URL('fixtures/models/llama-untied/', import.meta.url).pathname;
const commit = '0123456789abcdef0123456789abcdef01234567';
const name = 'some-lab/Tiny.Model-1';

/** What is no part of the model. */
const others = ['README.md', 'pytorch_model.bin', 'consolidated.safetensors'];
const model: HubModel = {
  name,
  commit,
  files: Object.fromEntries(others.map((file) => [file, Buffer.alloc(9)])),
};
for (const file of await readdir(fixture)) model.files[file] = await readFile(join(fixture, file));
model.files['tokenizer.json'] = Buffer.from('{}');

let cache: string;
let server: HubServer | undefined;
beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), 'hub-'));
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  await rm(cache, { recursive: true });
});

const start = async (changes: Partial<HubModel> = {}): Promise<HubServer> =>
  (server = await serveHub({ ...model, ...changes }));

describe('a model of the hub', () => {
  it('is fetched into a folder of its commit, only what a model consists of', async () => {
    const { address } = await start();
    const folder = await fetchHubModel(`${name}@main`, { cache, endpoint: address });
    expect(folder).toBe(join(cache, 'some-lab--Tiny.Model-1', commit));
    expect((await readdir(folder)).sort()).toEqual(
      Object.keys(model.files)
        .filter((file) => !others.includes(file))
        .sort(),
    );
    for (const file of await readdir(folder)) {
      expect((await readFile(join(folder, file))).equals(model.files[file]!), file).toBe(true);
    }
    const { config, weights } = await readModel(folder);
    expect(config).toMatchObject({ family: 'llama', dim: 16, layers: 2 });
    disposeTree(weights);
    expect(await modelDigest(folder)).toMatch(/^[0-9a-f]{64}$/);
    expect(await readdir(join(cache, 'some-lab--Tiny.Model-1'))).toEqual([commit]);
  });

  it('is fetched once, and without the hub when its commit is named', async () => {
    const { address, asked, close } = await start();
    const first = await fetchHubModel(name, { cache, endpoint: address });
    const questions = asked.length;
    expect(await fetchHubModel(`${name}@v1`, { cache, endpoint: address })).toBe(first);
    expect(asked).toHaveLength(questions + 1);
    await close();
    server = undefined;
    expect(await fetchHubModel(`${name}@${commit}`, { cache, endpoint: address })).toBe(first);
    await expect(fetchHubModel(name, { cache, endpoint: address })).rejects.toMatchObject({
      code: 'SERVICE_UNREACHABLE',
    });
  });

  it('is fetched with a token where one is asked for', async () => {
    const { address } = await start({ token: 'hf_secret' });
    const refused = fetchHubModel(name, { cache, endpoint: address });
    await expect(refused).rejects.toMatchObject({ code: 'MODEL_MISSING', hint: expect.stringContaining('HF_TOKEN') });
    await expect(fetchHubModel(name, { cache, endpoint: address, token: 'hf_secret' })).resolves.toContain(commit);
  });

  it.each(['config.json', 'model-00002-of-00002.safetensors'])('is refused when its %s comes damaged', async (file) => {
    const damage = (path: string, content: Buffer): Buffer => {
      if (path !== file) return content;
      const changed = Buffer.from(content);
      changed[changed.length - 1]! ^= 1;
      return changed;
    };
    const { address } = await start({ damage });
    await expect(fetchHubModel(name, { cache, endpoint: address })).rejects.toMatchObject({ code: 'MODEL_INVALID' });
    expect(await readdir(join(cache, 'some-lab--Tiny.Model-1'))).toEqual([]);
  });

  it.each(['model', 'a/b/c', '../up', 'lab/..', 'lab/name@', 'https://host/lab/name'])(
    'is not named by "%s"',
    async (text) => {
      await expect(fetchHubModel(text, { cache })).rejects.toMatchObject({ code: 'MODEL_MISSING' });
    },
  );

  it('is reported as missing when the hub has none of the name or revision', async () => {
    const { address } = await start();
    for (const reference of ['some-lab/other', `${name}@v9`]) {
      const fetched = fetchHubModel(reference, { cache, endpoint: address });
      await expect(fetched).rejects.toMatchObject({ code: 'MODEL_MISSING', hint: 'Check its name and revision.' });
    }
  });
});
