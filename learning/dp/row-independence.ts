/**
 * @file Whether a compiled microbatch gives each example the same contribution, bit for bit, in any row and beside any
 * neighbours.
 *
 * The sensitivity of a sum is the clip norm only if adding a record changes no other record's contribution, and it moves
 * others to other rows. Rows of a matrix product are computed alike in most libraries and shapes, but nothing promises it,
 * so each program is asked on the machine it runs on, with made-up examples.
 */

import { sizeOf, trainedParameters, type TunedShape } from '../tuning/parameters.ts';
import { disposeTree } from '../compile/index.ts';
import type { ModelConfig } from '../decoder/config.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import { seededStream } from '../../privacy/noise.ts';
import { microbatchTensors, type MicrobatchGradient } from './gradients.ts';
import { encodeRecord, fillMicrobatch, type EncodedRecord, type MicrobatchShape } from './sequences.ts';

export interface CheckedModel {
  config: ModelConfig;
  tuned: TunedShape;
  weights: Record<string, Tensor>;
}

/** Examples of all lengths and classes, one a row. */
function examples({ config, tuned }: CheckedModel, { rows, time }: MicrobatchShape): EncodedRecord[] {
  const stream = seededStream(0, 'row check examples');
  const token = (): number => Math.floor(stream.uniform() * config.vocab);
  return Array.from({ length: rows }, (_, row) => {
    const text = Int32Array.from({ length: 1 + ((row * 7) % time) }, token);
    const label = row % Math.max(1, tuned.head?.classes ?? tuned.classes);
    return encodeRecord({ bosId: token(), eosId: token(), prefix: new Int32Array(0), text, label }, time);
  });
}

/** An adapter whose gradients are nowhere zero, unlike at the start of training. */
function anyAdapter({ config, tuned }: CheckedModel): Record<string, Tensor> {
  const stream = seededStream(0, 'row check adapter');
  return Object.fromEntries(
    trainedParameters(config, tuned).map((parameter) => {
      const values = new Float32Array(sizeOf(parameter));
      stream.fillGaussian(values, 0.05);
      return [parameter.name, tf.tensor(values, parameter.shape) as Tensor];
    }),
  );
}

/**
 * Compares the sums of all examples, of all in opposite order, and of two halves that are added: in exact arithmetic they
 * are equal if contributions are.
 */
export function rowsAreIndependent(program: MicrobatchGradient, model: CheckedModel, shape: MicrobatchShape): boolean {
  const records = examples(model, shape);
  const adapter = anyAdapter(model);
  const sums = (rows: readonly (EncodedRecord | null)[]): Record<string, Int32Array> => {
    const data = microbatchTensors(fillMicrobatch(shape, rows, 0));
    const outputs = program({ weights: model.weights, adapter, ...data });
    const read = Object.entries(outputs.sums).map(([group, sum]) => [group, sum.dataSync() as Int32Array] as const);
    disposeTree([data, outputs]);
    return Object.fromEntries(read);
  };
  try {
    const whole = sums(records);
    const reversed = sums([...records].reverse());
    const odd = sums(records.map((record, row) => (row % 2 === 1 ? record : null)));
    // The others close ranks.
    const even = sums(records.filter((_, row) => row % 2 === 0));
    return Object.entries(whole).every(([group, sum]) =>
      sum.every((value, at) => value === reversed[group]![at] && value === odd[group]![at]! + even[group]![at]!),
    );
  } finally {
    disposeTree(adapter);
  }
}
