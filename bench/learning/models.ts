/** @file The decoders that are measured. */

import type { LoraShape } from '../../learning/tuning/parameters.ts';
import type { DecoderConfig } from '../../learning/decoder/config.ts';
import type { LoraWork } from './training.ts';

export const small: DecoderConfig = {
  ...{ family: 'llama', dim: 128, layers: 4, heads: 4, kvHeads: 4, hidden: 352, vocab: 512, context: 128 },
  ...{ ropeTheta: 10000, rmsEps: 1e-5, tied: false },
};

export const wide: DecoderConfig = { ...small, dim: 768, layers: 2, heads: 12, kvHeads: 12, hidden: 2048, vocab: 8192 };

/** Of the shape of SmolLM2-135M (Allal et al. 2025, arXiv:2502.02737); time and memory don't depend on the weights. */
export const smolLm2: DecoderConfig = {
  ...{ family: 'llama', dim: 576, layers: 30, heads: 9, kvHeads: 3, hidden: 1536, vocab: 49152, context: 2048 },
  ...{ ropeTheta: 100000, rmsEps: 1e-5, tied: true },
};

export const loraOn = (targets: LoraShape['targets']): LoraWork['tuned'] => ({
  kind: 'lora',
  rank: 8,
  alpha: 16,
  targets,
  classes: 0,
});

export const smolLm2Work: LoraWork = {
  config: smolLm2,
  tuned: loraOn(['q', 'v']),
  batch: 8,
  time: 64,
  rows: 4,
};

/**
 * Operations of the matrix products of a LoRA step: forward through all layers, back through their inputs' gradients; the
 * frozen matrices have none of their own. Causal attention counts whole, as it is computed. The adapter's are left out.
 */
export function loraStepOperations({ config, batch, time }: LoraWork): number {
  const { dim, layers, heads, kvHeads, hidden, vocab } = config;
  const kv = (dim / heads) * kvHeads;
  const linear = layers * (2 * dim * dim + 2 * dim * kv + 3 * dim * hidden) + dim * vocab;
  const tokens = batch * time;
  // Two products forward; each has two gradients.
  const attention = layers * 2 * time * dim;
  return tokens * (2 * 2 * linear + 2 * 3 * attention);
}
