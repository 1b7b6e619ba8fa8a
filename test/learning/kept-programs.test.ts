import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';

interface TwoSteps {
  /** Programs in the cache before the first step, and after the last. */
  programs: [number, number];
  /** Digest of the state after them. */
  reached: string;
}

/** What training does in a process of its own. */
function twoSteps(kind: string, environment: Record<string, string>): TwoSteps {
  const output = execFileSync(
    process.execPath,
    ['--import', 'tsx', join(import.meta.dirname, 'two-steps-process.ts'), kind],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], env: { ...process.env, ...environment } },
  );
  return JSON.parse(output) as TwoSteps;
}

// Whoever sees the cache would know from it when a record of a length was first drawn.
it.each(['lora', 'full'])(
  'all programs of training (%s) lie in the cache before the first step, and give the same bits on one thread and on two',
  { timeout: 480_000 },
  (kind) => {
    const on = (threads: string): TwoSteps =>
      twoSteps(kind, { TF_NUM_INTRAOP_THREADS: threads, TF_NUM_INTEROP_THREADS: threads, OMP_NUM_THREADS: threads });
    const one = on('1');
    // One for each length, whatever lengths the records have.
    expect(one.programs).toEqual([2, 2]);
    expect(one.reached).toMatch(/^[0-9a-f]{64}$/);
    expect(on('2')).toEqual(one);
  },
);
