import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

import { main } from '../../cli/main.ts';
import { LanguageServer } from './language-server.ts';

const folder = mkdtempSync(join(tmpdir(), 'epsilonflow editor '));
const server = new LanguageServer();
let spec = '';

beforeAll(async () => {
  const spy = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  await main(['init', join(folder, 'reviews')]);
  spy.mockRestore();
  spec = readFileSync(join(folder, 'reviews', 'reviews.yaml'), 'utf8');
  await server.start();
});
afterAll(() => {
  server.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Opens the spec that `init` wrote, with a change, beside it: its first line names the schema from there. */
let opened = 0;
async function open(
  from: string,
  to: string,
): Promise<{ path: string; at: (text: string) => [number, number]; faults: string[] }> {
  expect(spec).toContain(from);
  const text = spec.replace(from, () => to);
  opened += 1;
  const path = join(folder, 'reviews', `${opened}.yaml`);
  const diagnostics = await server.open(path, text);
  const at = (part: string): [number, number] => {
    const before = text.slice(0, text.indexOf(part) + part.length).split('\n');
    return [before.length - 1, before.at(-1)!.length];
  };
  return { path, at, faults: diagnostics.map(({ message, range }) => `line ${range.start.line + 1}: ${message}`) };
}

const clip = '      clip: 0.5\n';

describe('an editor with the YAML language server, for the spec that init writes', () => {
  it('finds nothing wrong', async () => {
    expect(spec).toMatch(/^# yaml-language-server: \$schema=\S+experiment\.schema\.json\n/);
    expect((await open(clip, clip)).faults).toEqual([]);
  });

  it('marks a key that there is not', async () => {
    const { faults } = await open(clip, '      clipp: 0.5\n');
    expect(faults).toEqual(['line 36: Property clipp is not allowed.']);
  });

  it('marks a value that can not be', async () => {
    const { faults } = await open(clip, '      clip: -1\n');
    expect(faults).toEqual(['line 36: Value is below the exclusive minimum of 0.']);
  });

  it('proposes the keys of the kind of step that are not there yet, with what they mean', async () => {
    const { path, at } = await open(clip, `${clip}      wa\n`);
    const items = await server.complete(path, ...at('      wa'));
    expect(items.map(({ label }) => label)).toEqual([
      ...[
        'objective',
        'lossDivisor',
        'optimizer',
        'warmup',
        'decay',
        'finalLr',
        'sequence',
        'memory',
        'checkpoint',
        'seed',
      ],
    ]);
    expect(JSON.stringify(items.find(({ label }) => label === 'warmup')!.documentation)).toContain(
      'Steps over which the learning rate rises.',
    );
  });

  it('proposes the words that a key takes', async () => {
    const { path, at } = await open('conditioning: class-bias', 'conditioning: ');
    const items = await server.complete(path, ...at('conditioning: '));
    expect(items.map(({ label }) => label)).toEqual(expect.arrayContaining(['prefix', 'class-bias']));
  });

  it('tells what a key means, its unit and its default', async () => {
    const { path, at } = await open(clip, clip);
    const [line, character] = at('      batch');
    expect((await server.hover(path, line, character - 1)).split('\nSource:')[0]).toMatchInlineSnapshot(`
      "#### FinetuneWith

      Expected logical batch size, records. The sampling probability is this over \`privacy.size\`.

      Default: \`1024\`.
      "
    `);
  });
});
