import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { bytesOf, isWithin, microbatchesAtOnce, microbatchShapes } from '../../learning/dp/memory.ts';
import { parameterCount, type DecoderConfig } from '../../learning/decoder/config.ts';
import { smallAdapter, smallConfig } from './small-model.ts';

/** Of the shape of a model with 135 million weights. */
const larger: DecoderConfig = {
  ...smallConfig,
  ...{ dim: 576, layers: 30, heads: 9, kvHeads: 3, hidden: 1536, vocab: 49152, context: 2048, tied: true },
};
const gib = 2 ** 30;

it('fills about 1,536 tokens when memory allows it', () => {
  const shapes = microbatchShapes(smallConfig, smallAdapter, { sequence: 48, memory: 4 * gib });
  expect(shapes.map(({ time }) => time)).toEqual([16, 24, 32, 40, 48]);
  for (const { rows, time } of shapes) expect(rows).toBe(Math.floor(1536 / time));
});

it('takes fewer examples of a larger model, the fewer the longer they are', () => {
  const rows = (memory: number): number[] =>
    microbatchShapes(larger, smallAdapter, { sequence: 128, memory }).map((shape) => shape.rows);
  const [some, many] = [rows(3 * gib), rows(12 * gib)];
  expect(some).toEqual([...some].sort((a, b) => b - a));
  expect(some.at(-1)).toBeGreaterThanOrEqual(1);
  expect(some.at(-1)).toBeLessThan(many.at(-1)!);
});

it('computes as many microbatches side by side as fit, two of them if there are two examples', () => {
  const of = (memory: number, most: number): number => {
    const layout = microbatchShapes(larger, smallAdapter, { sequence: 128, memory });
    return microbatchesAtOnce(larger, smallAdapter, layout, { memory, most });
  };
  expect(of(16 * gib, 2)).toBe(2);
  expect(of(3 * gib, 2)).toBe(2);
  expect(of(3 * gib, 64)).toBeLessThan(of(16 * gib, 64));
  // Not even one has room.
  const layout = microbatchShapes(larger, smallAdapter, { sequence: 128, memory: 16 * gib });
  expect(microbatchesAtOnce(larger, smallAdapter, layout, { memory: gib, most: 2 })).toBe(1);
});

it('says what a model that does not fit takes', () => {
  const full = { kind: 'full', classes: 0 } as const;
  expect(() => microbatchShapes(larger, full, { sequence: 64, memory: 2 * gib })).toThrow(
    expect.objectContaining({
      code: 'MODEL_UNFIT',
      message: expect.stringMatching(
        /^An example of \d+ tokens takes about \d\.\d GiB of memory to train on; 2\.0 GiB are allowed\.$/,
      ) as string,
    }),
  );
});

it('tells whether microbatches keep to what is allowed', () => {
  const allowed = [
    { time: 8, rows: 4 },
    { time: 16, rows: 2 },
  ];
  const of = (first: number, second: number) => [
    { time: 8, rows: first },
    { time: 16, rows: second },
  ];
  expect(isWithin(of(4, 2), allowed)).toBe(true);
  expect(isWithin(of(1, 1), allowed)).toBe(true);
  expect(isWithin(of(4, 3), allowed)).toBe(false);
  expect(isWithin(of(4, 2).slice(1), allowed)).toBe(false);
  expect(
    isWithin(
      [
        { time: 8, rows: 4 },
        { time: 24, rows: 1 },
      ],
      allowed,
    ),
  ).toBe(false);
});

it('reads amounts of memory', () => {
  expect([bytesOf('512MiB'), bytesOf('4GiB'), bytesOf('1.5GiB')]).toEqual([gib / 2, 4 * gib, 1.5 * gib]);
});

it('counts the sums of each microbatch that is computed at the same time', () => {
  const full = { kind: 'full', classes: 0 } as const;
  const layout = [{ time: 8, rows: 1 }];
  const of = (memory: number): number => microbatchesAtOnce(larger, full, layout, { memory, most: 8 });
  const gradient = 4 * parameterCount(larger);
  let memory = 4 * gib;
  while (of(memory) < 2) memory += 2 ** 20;
  // One more takes its activations and, what is more, a gradient of all weights.
  expect(of(memory + 0.9 * gradient)).toBe(2);
  expect(of(memory + 1.2 * gradient)).toBe(3);
});

it.runIf(existsSync('/proc/self/status'))(
  'is kept to by a process that trains all weights, two microbatches at once',
  { timeout: 600_000 },
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'peak-'));
    const script = join(import.meta.dirname, 'peak-memory-process.ts');
    // What making the model leaves behind in a process is none of the step's.
    const inItsOwnProcess = (what: 'model' | 'step'): string =>
      execFileSync(process.execPath, ['--import', 'tsx', script, what, folder], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
    inItsOwnProcess('model');
    const { memory, peak } = JSON.parse(inItsOwnProcess('step')) as { memory: number; peak: number };
    rmSync(folder, { recursive: true });
    expect(peak).toBeLessThanOrEqual(memory);
  },
);
