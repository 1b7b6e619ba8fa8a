/** @file What a fine-tuned classifier says of texts. */

import { setPrediction, type Predictions } from '../classifier/predictions.ts';
import { compile, disposeTree, type CompiledFunction } from '../compile/index.ts';
import type { ModelConfig } from '../decoder/config.ts';
import { classLogits } from '../dp/example-losses.ts';
import { tiled } from '../dp/gradients.ts';
import { bucketLengths, fillMicrobatch, microbatchTokens, type EncodedRecord } from '../dp/sequences.ts';
import { uploaded } from '../dp/trainer.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import { adaptedLayers } from '../tuning/apply.ts';
import { headBias, headWeight, trainedParameters, type TrainedValues, type TunedShape } from '../tuning/parameters.ts';

type Inputs = {
  weights: Record<string, Tensor>;
  adapter: Record<string, Tensor>;
  /** [rows, time] int32 */
  tokens: Tensor;
  /** [rows, time] */
  pooling: Tensor;
};

export class ClassPredictor {
  private readonly config: ModelConfig;
  private readonly tuned: TunedShape;
  private readonly padId: number;
  private readonly lengths: readonly number[];
  private readonly run: CompiledFunction<Inputs, { logits: Tensor }>;

  constructor(config: ModelConfig, tuned: TunedShape, { sequence, padId }: { sequence: number; padId: number }) {
    this.config = config;
    this.tuned = tuned;
    this.padId = padId;
    this.lengths = bucketLengths(sequence);
    const programs = 2 * this.lengths.length;
    this.run = compile(
      ({ weights, adapter, tokens, pooling }: Inputs) => {
        const rows = tokens.shape[0] as number;
        const [weight, bias] = [headWeight, headBias].map((name) => tiled(adapter[name] as Tensor, rows));
        const layers = tuned.kind === 'lora' ? adaptedLayers(config, weights, tuned, adapter) : undefined;
        const head = { weight: weight!, bias: bias! };
        return { logits: classLogits(config, weights, { tokens, pooling }, { layers, head }) };
      },
      undefined,
      { programs },
    );
  }

  /**
   * Writes what is said of records to `into`; yields how many are done.
   *
   * @param values of what was trained; @param frozen weights of the base model, not read where those were trained
   * @param isApart each record in a call of its own, so that no bit of it depends on which others there are
   */
  *evaluate(
    records: readonly EncodedRecord[],
    values: TrainedValues,
    frozen: Record<string, Tensor>,
    into: Predictions,
    isApart: boolean,
  ): Generator<number> {
    const { weights: own, adapter } = uploaded(trainedParameters(this.config, this.tuned), values);
    const weights = this.tuned.kind === 'full' ? own : frozen;
    let done = 0;
    try {
      for (const [index, time] of this.lengths.entries()) {
        const shorter = this.lengths[index - 1] ?? 0;
        const places = [...records.keys()].filter((place) => {
          const length = records[place]!.tokens.length - 1;
          return length > shorter && length <= time;
        });
        const rows = isApart ? 1 : Math.max(1, Math.floor(microbatchTokens / time));
        for (let from = 0; from < places.length; from += rows) {
          const part = places.slice(from, from + rows);
          this.predict(records, part, { rows, time }, { weights, adapter }, into);
          done += part.length;
          yield done;
        }
      }
    } finally {
      disposeTree({ own, adapter });
    }
  }

  private predict(
    records: readonly EncodedRecord[],
    places: readonly number[],
    { rows, time }: { rows: number; time: number },
    given: Pick<Inputs, 'weights' | 'adapter'>,
    into: Predictions,
  ): void {
    const batch = fillMicrobatch(
      { rows, time },
      places.map((place) => records[place]!),
      this.padId,
    );
    const tokens = tf.tidy(() => tf.tensor2d(batch.tokens, [rows, time + 1], 'int32').slice([0, 0], [rows, time]));
    const pooling = tf.tensor2d(batch.lossWeights, [rows, time]);
    const { logits } = this.run({ ...given, tokens, pooling });
    const values = logits.dataSync();
    tf.dispose([tokens, pooling, logits]);
    const classes = values.length / rows;
    places.forEach((place, row) => {
      setPrediction(into, place, softmax(values.subarray(row * classes, (row + 1) * classes) as Float32Array));
    });
  }

  dispose(): void {
    this.run.dispose();
  }
}

function softmax(logits: Float32Array): Float64Array {
  const highest = logits.reduce((most, value) => Math.max(most, value), -Infinity);
  const shares = Float64Array.from(logits, (value) => Math.exp(value - highest));
  const total = shares.reduce((sum, share) => sum + share, 0);
  return shares.map((share) => share / total);
}
