import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { packageRoot } from '../../stack/paths.ts';

const folder = mkdtempSync(join(packageRoot, 'test', 'compile-docs-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('runs the example of the manual', async () => {
  const page = readFileSync(join(packageRoot, 'docs', 'compile.md'), 'utf8');
  const [, code] = /^```ts\n([\s\S]*?)^```/m.exec(page) as unknown as [string, string];
  const file = join(folder, 'example.ts');
  writeFileSync(file, `${code.replaceAll("'../learning/", "'../../learning/")}\nexport { learned };\n`);
  const { learned } = (await import(file)) as { learned: number };
  expect(learned).toBeCloseTo(2, 3);
});
