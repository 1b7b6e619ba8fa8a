/**
 * @file Prints, for texts of several sizes, how many bytes of arrays the search for common runs holds at most for a byte
 * of text. In a process of its own, started with --expose-gc: what is not used any more is not counted.
 */

import { setTimeout as sleep } from 'node:timers/promises';

import { commonRuns } from '../../measures/overlap/index.ts';
import { seededStream } from '../../privacy/noise.ts';

const stream = seededStream(1, 'overlap memory');

async function arrays(): Promise<number> {
  gc!();
  // Buffers are given back after the collection.
  await sleep(2);
  return process.memoryUsage().arrayBuffers;
}

/** Two bytes a token, all of it common: the most tokens that a text can have. */
async function bytesOfByte(size: number): Promise<number> {
  const text = Array.from({ length: size / 4 }, () => String.fromCharCode(97 + Math.floor(26 * stream.uniform()))).join(
    ' ',
  );
  const before = await arrays();
  let most = 0;
  await commonRuns([text], [text], 50, async () => {
    most = Math.max(most, (await arrays()) - before);
  });
  return most / (2 * text.length);
}

const measured: number[] = [];
for (const size of [1 << 20, 1 << 22]) measured.push(await bytesOfByte(size));
process.stdout.write(JSON.stringify(measured));
