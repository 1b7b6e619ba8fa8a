import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, it } from 'vitest';

import { sourceDigest } from '../../tracking/source-digest.ts';

it('tells other code and other dependencies apart, with a lock file and without one', () => {
  const root = mkdtempSync(join(tmpdir(), 'sources-'));
  mkdirSync(join(root, 'learning'));
  const digests = [
    ['package.json', '{}'],
    ['learning/model.ts', 'export {};'],
    ['package-lock.json', '{}'],
    ['package-lock.json', '{"packages":{}}'],
  ].map(([file, content]) => {
    writeFileSync(join(root, file!), content!);
    return sourceDigest(['learning'], root);
  });
  expect(new Set(digests).size).toBe(digests.length);
  rmSync(root, { recursive: true });
});
