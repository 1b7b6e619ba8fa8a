/** @file Loss of a decoder on held-out text. */

import { compile, type CompiledFunction } from '../compile/index.ts';
import { weightShapes, type DecoderConfig } from '../decoder/config.ts';
import { meanLoss, type TensorRecord } from '../decoder/training.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import { rowCount, takeRows, type TokenStream } from './packing.ts';

interface EvaluationInputs {
  weights: TensorRecord;
  tokens: Tensor;
  mask: Tensor;
  [name: string]: Tensor | TensorRecord;
}

export interface HeldOutLoss {
  /** Nats a predicted token, end-of-text tokens included. */
  perToken: number;
  /** The same total over the UTF-8 bytes of the texts. */
  perByte: number;
}

export interface Evaluator {
  /** Mean loss over the whole stream; `onRows` hears how many rows are done and may yield to the event loop. */
  evaluate(
    weights: TensorRecord,
    stream: TokenStream,
    onRows: (done: number, total: number) => Promise<void>,
  ): Promise<HeldOutLoss>;
  dispose(): void;
}

/** Compiles the forward pass for batches of `batch` rows of `sequence` tokens. */
export function compileEvaluator(config: DecoderConfig, batch: number, sequence: number): Evaluator {
  const shapes = Object.entries(weightShapes(config));
  const example: EvaluationInputs = {
    weights: Object.fromEntries(shapes.map(([name, shape]) => [name, tf.zeros(shape) as Tensor])),
    tokens: tf.zeros([batch, sequence + 1], 'int32'),
    mask: tf.ones([batch, sequence]),
  };
  const run: CompiledFunction<EvaluationInputs, { loss: Tensor }> = compile(
    ({ weights, tokens, mask }: EvaluationInputs) => ({ loss: meanLoss(config, weights, tokens, mask) }),
    example,
  );
  tf.dispose(example);
  return {
    async evaluate(weights, stream, onRows) {
      const rows = rowCount(stream.tokens, sequence);
      let nats = 0;
      let predicted = 0;
      for (let start = 0; start < rows; start += batch) {
        const packed = takeRows(
          stream.tokens,
          Int32Array.from({ length: batch }, (_, index) => start + index),
          sequence,
        );
        const weight = packed.mask.reduce((sum, value) => sum + value, 0);
        const tokens = tf.tensor(packed.tokens, [batch, sequence + 1], 'int32');
        const mask = tf.tensor(packed.mask, [batch, sequence]);
        const { loss } = run({ weights, tokens, mask });
        nats += weight * (loss.dataSync()[0] as number);
        predicted += weight;
        tf.dispose([tokens, mask, loss]);
        await onRows(Math.min(rows, start + batch), rows);
      }
      return { perToken: nats / predicted, perByte: nats / stream.bytes };
    },
    dispose: () => run.dispose(),
  };
}
