/** @file How Hugging Face configurations name the scaling of rotary positions: `rope_scaling`, or `rope_parameters`. */

import type { RopeScaling } from '../decoder/config.ts';
import { jsonReader, type JsonReader } from './json-reader.ts';

/** 0.1 m ln(factor) + 1 (Peng et al. 2023, equation 22). */
const magnitude = (factor: number, m: number): number => (factor <= 1 ? 1 : 0.1 * m * Math.log(factor) + 1);

/** The factor of cosines and sines that YaRN gives where none is stated. */
export const yarnAttentionFactor = (factor: number): number => magnitude(factor, 1);

function parseYarn({ number, json }: JsonReader, context: number): RopeScaling {
  const factor = number('factor');
  const [all, part] = [number('mscale_all_dim', 0), number('mscale', 0)];
  const inferred =
    all !== 0 && part !== 0 ? magnitude(factor, part) / magnitude(factor, all) : yarnAttentionFactor(factor);
  return {
    kind: 'yarn',
    factor,
    originalContext: number('original_max_position_embeddings', context),
    betaFast: number('beta_fast', 32),
    betaSlow: number('beta_slow', 1),
    attentionFactor: number('attention_factor', inferred),
    truncate: json['truncate'] !== false,
  };
}

/**
 * Base and scaling of a configuration.
 *
 * @param context its `max_position_embeddings`
 * @throws EpsilonflowError MODEL_INVALID for a scaling that is not known, or that depends on the length of a text
 */
export function parseRopeScaling(
  { json, number, fault }: JsonReader,
  context: number,
): { theta: number; scaling: RopeScaling | undefined } {
  // Since version 5 transformers writes the base beside the scaling.
  const nested = (json['rope_parameters'] ?? json['rope_scaling'] ?? {}) as Record<string, unknown>;
  const scaling = jsonReader(`rope_scaling of the model`, nested);
  const theta = scaling.number('rope_theta', number('rope_theta', 10000));
  const type = nested['rope_type'] ?? nested['type'] ?? 'default';
  switch (type) {
    case 'default':
      return { theta, scaling: undefined };
    case 'linear':
      return { theta, scaling: { kind: 'linear', factor: scaling.number('factor') } };
    case 'llama3':
      return {
        theta,
        scaling: {
          kind: 'llama3',
          factor: scaling.number('factor'),
          lowFrequency: scaling.number('low_freq_factor'),
          highFrequency: scaling.number('high_freq_factor'),
          originalContext: scaling.number('original_max_position_embeddings'),
        },
      };
    case 'yarn':
      return { theta, scaling: parseYarn(scaling, context) };
    case 'dynamic':
    case 'longrope':
      return fault(
        `rope_scaling of type ${type} turns positions differently for longer texts, which is not supported; without ` +
          'rope_scaling the model works within the context that it was trained on',
      );
    default:
      return fault(`rope_scaling has the unknown type ${JSON.stringify(type)}; linear, llama3 and yarn are supported`);
  }
}

/** Inverse of `parseRopeScaling`. */
export function ropeScalingJson(scaling: RopeScaling | undefined): Record<string, unknown> | null {
  switch (scaling?.kind) {
    case undefined:
      return null;
    case 'linear':
      return { rope_type: 'linear', factor: scaling.factor };
    case 'llama3':
      return {
        rope_type: 'llama3',
        factor: scaling.factor,
        low_freq_factor: scaling.lowFrequency,
        high_freq_factor: scaling.highFrequency,
        original_max_position_embeddings: scaling.originalContext,
      };
    case 'yarn':
      return {
        rope_type: 'yarn',
        factor: scaling.factor,
        original_max_position_embeddings: scaling.originalContext,
        beta_fast: scaling.betaFast,
        beta_slow: scaling.betaSlow,
        attention_factor: scaling.attentionFactor,
        truncate: scaling.truncate,
      };
  }
}
