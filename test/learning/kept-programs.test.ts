import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';

// Whoever sees the cache would know from it when a record of a length was first drawn.
it.each(['lora', 'full'])(
  'all programs of training (%s) lie in the cache before the first step',
  { timeout: 240_000 },
  (kind) => {
    const script = join(import.meta.dirname, 'kept-programs-process.ts');
    const stdio: ['ignore', 'pipe', 'ignore'] = ['ignore', 'pipe', 'ignore'];
    const output = execFileSync(process.execPath, ['--import', 'tsx', script, kind], { encoding: 'utf8', stdio });
    const [before, after] = JSON.parse(output) as [number, number];
    // One for each length, whatever lengths the records have.
    expect(before).toBe(2);
    expect(after).toBe(before);
  },
);
