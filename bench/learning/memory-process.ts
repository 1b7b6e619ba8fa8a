/** @file Trains an adapter for some steps in a process of its own, and prints the most memory that it held, in bytes. */

import { madeUpWeights, trainerArm } from './lora.ts';
import { smolLm2, smolLm2Work } from './models.ts';

const weights = madeUpWeights(smolLm2);
await trainerArm('ours', smolLm2Work, weights, 'exact', () => undefined).run(2);
// In KiB on all systems.
process.stdout.write(`${process.resourceUsage().maxRSS * 1024}\n`);
