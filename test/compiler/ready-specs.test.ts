import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';

import { offlineHost } from '../../cli/compile-host.ts';
import { compile } from '../../compiler/index.ts';
import { SpecFaults } from '../../schemas/errors.ts';
import type { Experiment } from '../../schemas/experiment.ts';
import { packageRoot } from '../../stack/paths.ts';

const folder = mkdtempSync(join(tmpdir(), 'epsilonflow-ready-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Enough for the default batch of 1024. */
const records = 3000;

/** Small data and models where a spec looks for its own, so that it plans on a machine without any. */
function furnish(spec: Experiment, specFolder: string): void {
  const write = (path: string, content: string): void => {
    const target = join(specFolder, path);
    if (relative(folder, target).startsWith('..')) throw new Error(`${path} leads out of the folder of this test`);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, content);
  };
  for (const { files, text = 'text', label } of Object.values(spec.datasets ?? {})) {
    const column = label?.column ?? 'label';
    const cells = Array.from({ length: records }, (_, index) => ({
      text: `record ${index}`,
      label: label?.values[index % label.values.length],
    }));
    for (const path of Object.values(files)) {
      if (path.endsWith('.csv')) {
        write(path, [`${text},${column}`, ...cells.map((cell) => `${cell.text},${cell.label}`)].join('\n'));
      } else if (path.endsWith('.jsonl')) {
        write(path, cells.map((cell) => JSON.stringify({ [text]: cell.text, [column]: cell.label })).join('\n'));
      } else throw new Error(`This test can't make up ${path}`);
    }
  }
  for (const { path, gguf } of Object.values(spec.models ?? {})) {
    if (gguf !== undefined) write(gguf, 'GGUF');
    if (path !== undefined) for (const name of ['config.json', 'tokenizer.json']) write(join(path, name), '{}');
  }
}

const wholeSpec = /^```ya?ml\n((?:(?!```)[\s\S])*?^version: 1$[\s\S]*?)^```/gm;

function documents(): string[] {
  const docs = readdirSync(join(packageRoot, 'docs'), { recursive: true, encoding: 'utf8' });
  const pages = docs.filter((name) => name.endsWith('.md')).map((name) => join('docs', name));
  return readdirSync(packageRoot).includes('README.md') ? ['README.md', ...pages] : pages;
}

const specs: [string, string][] = [
  ...readdirSync(join(packageRoot, 'experiments'))
    .filter((name) => name.endsWith('.yaml'))
    .map((name): [string, string] => [name, readFileSync(join(packageRoot, 'experiments', name), 'utf8')]),
  ...documents().flatMap((page) =>
    [...readFileSync(join(packageRoot, page), 'utf8').matchAll(wholeSpec)].map((match, index): [string, string] => [
      `${page}, block ${index + 1}`,
      match[1]!,
    ]),
  ),
];

describe('every spec that comes with the project plans, with each of its profiles', () => {
  it('and there are some', () => {
    expect(specs.map(([name]) => name)).toEqual(
      expect.arrayContaining(['quickstart.yaml', 'docs/concepts.md, block 1']),
    );
  });

  it.each(specs)('%s', async (name, text) => {
    const specFolder = join(folder, name.replaceAll(/[^\w.-]/g, '-'), 'project', 'experiments');
    mkdirSync(specFolder, { recursive: true });
    const file = join(specFolder, 'spec.yaml');
    writeFileSync(file, text);
    const spec = parse(text) as Experiment;
    furnish(spec, specFolder);
    for (const profile of [undefined, ...Object.keys(spec.profiles ?? {})]) {
      try {
        const { plan } = await compile({ file, profile }, offlineHost());
        expect(plan.nodes.length).toBeGreaterThan(0);
      } catch (error) {
        if (!(error instanceof SpecFaults)) throw error;
        throw new Error(error.faults.map(({ position, message }) => `${position?.line}: ${message}`).join('\n'));
      }
    }
  });
});
