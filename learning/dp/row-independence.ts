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

/** What a program makes of rows: sums by group, and the loss of each row. */
interface Made {
  sums: Record<string, Int32Array>;
  losses: Float32Array;
}

/**
 * Compares what comes of all examples, of all in opposite order, and of two halves. In exact arithmetic sums are equal
 * if contributions are; but gradients are cut to whole steps of the grid, and a difference in the last bit seldom shows
 * in those. So losses, which are not cut, must have the same bits too.
 */
export function rowsAreIndependent(program: MicrobatchGradient, model: CheckedModel, shape: MicrobatchShape): boolean {
  const records = examples(model, shape);
  const adapter = anyAdapter(model);
  const made = (rows: readonly (EncodedRecord | null)[]): Made => {
    const data = microbatchTensors(fillMicrobatch(shape, rows, 0));
    const outputs = program({ weights: model.weights, adapter, ...data });
    const read = Object.entries(outputs.sums).map(([group, sum]) => [group, sum.dataSync() as Int32Array] as const);
    const losses = outputs.losses.dataSync() as Float32Array;
    disposeTree([data, outputs]);
    return { sums: Object.fromEntries(read), losses };
  };
  try {
    const whole = made(records);
    const reversed = made([...records].reverse());
    const odd = made(records.map((record, row) => (row % 2 === 1 ? record : null)));
    // The others close ranks.
    const even = made(records.filter((_, row) => row % 2 === 0));
    const last = records.length - 1;
    return (
      Object.entries(whole.sums).every(([group, sum]) =>
        sum.every(
          (value, at) =>
            value === reversed.sums[group]![at] && value === odd.sums[group]![at]! + even.sums[group]![at]!,
        ),
      ) &&
      whole.losses.every(
        (loss, row) =>
          loss === reversed.losses[last - row] && loss === (row % 2 === 1 ? odd.losses[row] : even.losses[row / 2]),
      )
    );
  } finally {
    disposeTree(adapter);
  }
}
