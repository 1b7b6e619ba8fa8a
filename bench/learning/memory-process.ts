/** @file Trains an adapter for some steps in a process of its own, and prints the most memory that it held, in bytes. */

import { readFileSync } from 'node:fs';

import { madeUpWeights, trainerArm } from './training.ts';
import { smolLm2, smolLm2Work } from './models.ts';

const weights = madeUpWeights(smolLm2);
await trainerArm('ours', smolLm2Work, weights, 'exact', () => undefined).run(2);
// Not the resource usage: that begins with what the parent held when it started this process.
const peak = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
process.stdout.write(`${Number(peak) * 1024}\n`);
