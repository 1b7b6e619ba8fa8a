/** @file Where a spec's models are, and what of them a plan holds. */

import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';

import { serveHub } from '../learning/hub-server.ts';
import { openWorkspace, preamble } from './workspace.ts';

const workspace = openWorkspace();
afterAll(() => workspace.remove());

const environment = { ...process.env };
afterEach(() => {
  process.env = { ...environment };
});

const specWith = (model: string): string => `${preamble.replace('{ path: model }', model)}
steps:
  generator: { uses: finetune, with: { model: base, data: reviews, epsilon: 8 } }
`;

describe('a model', () => {
  it('may be a folder, a GGUF file, or a checkpoint of llama2.c with its tokenizer', async () => {
    const file = workspace.write('model.gguf', 'GGUF and more');
    const { models, nodes } = await workspace.plan(specWith('{ gguf: model.gguf }'));
    expect(models['base']).toMatchObject({ path: file });
    const again = await workspace.plan(specWith('{ path: ./model.gguf }'));
    expect(again.models).toEqual(models);
    workspace.write('model.gguf', 'GGUF and other');
    const changed = await workspace.plan(specWith('{ gguf: model.gguf }'));
    expect(changed.nodes[0]!.key).not.toBe(nodes[0]!.key);

    workspace.write('stories.bin', 'weights');
    expect(await workspace.faults(specWith('{ path: stories.bin }'))).toEqual([
      '15:17 MODEL_MISSING Model file /tokenizer.bin does not exist or cannot be read',
    ]);
    workspace.write('tokenizer.bin', 'tokens');
    expect(await workspace.faults(specWith('{ path: stories.bin }'))).toEqual([]);
  });

  it('may be one of the hub, which is fetched', async () => {
    const [name, commit] = ['lab/tiny', 'f'.repeat(40)];
    const files = { 'config.json': Buffer.from('{}'), 'tokenizer.json': Buffer.from('{}') };
    const server = await serveHub({ name, commit, files });
    try {
      process.env['HF_ENDPOINT'] = server.address;
      process.env['EPSILONFLOW_HOME'] = join(workspace.folder, 'state');
      const { models } = await workspace.plan(specWith(`{ hub: ${name}@main }`));
      expect(models['base']!.path).toBe(join(workspace.folder, 'state', 'models', 'lab--tiny', commit));
      expect(await workspace.faults(specWith(`{ hub: lab/other }`))).toEqual([
        '15:16 MODEL_MISSING The hub gives out no model lab/other (404)',
      ]);
    } finally {
      await server.close();
    }
    await expect(workspace.plan(specWith(`{ hub: ${name}@main }`))).rejects.toMatchObject({
      code: 'SERVICE_UNREACHABLE',
    });
  });

  it('is at one place', async () => {
    expect(await workspace.faults(specWith('{ path: model, gguf: model.gguf }'))).toEqual([
      expect.stringMatching(/SPEC_SCHEMA .* has too many entries/),
    ]);
    expect(await workspace.faults(specWith('{}'))).toContainEqual(expect.stringMatching(/SPEC_SCHEMA .* is empty/));
  });
});
