/** @file What single records cost a model, or what was trained on it: nats of their predicted tokens together. */

import { compile, type CompiledFunction } from '../compile/index.ts';
import type { DecoderConfig } from '../decoder/config.ts';
import { flatLogits, type ForwardOptions } from '../decoder/forward.ts';
import { crossEntropy } from '../decoder/loss.ts';
import type { Weights } from '../decoder/weights.ts';
import { bucketLengths, fillMicrobatch, type EncodedRecord, type MicrobatchShape } from '../dp/sequences.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import { adapted, classConditioning, type AdapterTensors } from './apply.ts';
import { trainedParameters, type TrainedValues, type TunedShape } from './parameters.ts';

/** Tokens of a call, about; and most numbers that its logits may be. */
const tokensACall = 2048;
const mostLogits = 1 << 26;

export interface ScoringModel {
  config: DecoderConfig;
  /** Of the base model; not read where all weights were trained. */
  weights: Weights;
  /** Null: the base model itself, for which classes are words of the prefix or nothing. */
  trained: { tuned: TunedShape; values: TrainedValues } | null;
}

type Inputs = { weights: Weights; trained: AdapterTensors; tokens: Tensor; lossWeights: Tensor; labels: Tensor };

function optionsOf(tuned: TunedShape | null, tensors: AdapterTensors, labels: Tensor): ForwardOptions {
  if (tuned === null) return {};
  if (tuned.kind !== 'full') return adapted(tuned, tensors, labels);
  return tuned.classes > 0 ? { conditioning: classConditioning(tensors, labels) } : {};
}

/** [rows] loss of each record, as its tokens are weighted. */
function losses(
  { config, trained }: ScoringModel,
  { weights, trained: tensors, tokens, lossWeights, labels }: Inputs,
): Tensor {
  const [rows, time] = lossWeights.shape as [number, number];
  const tuned = trained?.tuned ?? null;
  const read = tokens.slice([0, 0], [rows, time]);
  const logits = flatLogits(
    config,
    tuned?.kind === 'full' ? tensors : weights,
    read,
    optionsOf(tuned, tensors, labels),
  );
  const targets = tokens.slice([0, 1], [rows, time]).reshape([rows * time]);
  return crossEntropy(logits, targets, lossWeights.reshape([rows * time]))
    .reshape([rows, time])
    .sum(1);
}

/** One model's losses of records; its programs are compiled once. */
export class RecordLosses {
  readonly #model: ScoringModel;
  readonly #settings: { sequence: number; padId: number };
  readonly #tensors: Record<string, Tensor> = {};
  readonly #run: CompiledFunction<Inputs, { losses: Tensor }>;

  /** @param settings.sequence longest record, tokens after the start token */
  constructor(model: ScoringModel, settings: { sequence: number; padId: number }) {
    const { config, trained } = model;
    this.#model = model;
    this.#settings = settings;
    for (const { name, shape } of trained ? trainedParameters(config, trained.tuned) : []) {
      this.#tensors[name] = tf.tensor(trained!.values[name]!, shape);
    }
    this.#run = compile((inputs: Inputs) => ({ losses: losses(model, inputs) }));
  }

  /**
   * Nats of each record's predicted tokens together.
   *
   * @param onRecords hears how many are done; may yield to the event loop or throw
   */
  async of(records: readonly EncodedRecord[], onRecords: (done: number) => Promise<void>): Promise<Float64Array> {
    const found = new Float64Array(records.length);
    let done = 0;
    for (const { shape, places } of callsFor(records, this.#settings.sequence, this.#model.config.vocab)) {
      const each = this.#call(
        shape,
        places.map((place) => records[place]!),
      );
      // The weights of a record's tokens are one over its divisor.
      places.forEach((place, row) => (found[place] = each[row]! * records[place]!.divisor));
      await onRecords((done += places.length));
    }
    return found;
  }

  /** Frees programs and what was trained; the caller keeps the base model's weights. */
  dispose(): void {
    this.#run.dispose();
    tf.dispose(Object.values(this.#tensors));
  }

  #call({ rows, time }: MicrobatchShape, records: readonly EncodedRecord[]): ArrayLike<number> {
    const { weights, trained } = this.#model;
    const filled = fillMicrobatch({ rows, time }, records, this.#settings.padId);
    const data = {
      tokens: tf.tensor2d(filled.tokens, [rows, time + 1], 'int32') as Tensor,
      lossWeights: tf.tensor2d(filled.lossWeights, [rows, time]) as Tensor,
      labels: tf.tensor1d(filled.labels, 'int32') as Tensor,
    };
    const given = { weights: trained?.tuned.kind === 'full' ? {} : weights, trained: this.#tensors };
    const outputs = this.#run({ ...given, ...data });
    const each = outputs.losses.dataSync();
    tf.dispose([...Object.values(data), outputs.losses]);
    return each;
  }
}

/** Records of a length, as many at once as a call takes. */
function* callsFor(
  records: readonly EncodedRecord[],
  sequence: number,
  vocab: number,
): Generator<{ shape: MicrobatchShape; places: number[] }> {
  let shorter = -1;
  for (const time of bucketLengths(sequence)) {
    const places = [...records.keys()].filter((place) => {
      const length = records[place]!.tokens.length - 1;
      return length > shorter && length <= time;
    });
    const rows = Math.max(1, Math.floor(Math.min(tokensACall, mostLogits / vocab) / time));
    for (let start = 0; start < places.length; start += rows) {
      yield { shape: { rows, time }, places: places.slice(start, start + rows) };
    }
    shorter = time;
  }
}
