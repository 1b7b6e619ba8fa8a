import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { compile, disposeTree } from '../../learning/compile/index.ts';
import type { DecoderConfig } from '../../learning/decoder/config.ts';
import { decodeStep, emptyCache, forward, type DecodeCache } from '../../learning/decoder/forward.ts';
import { readLlama2c } from '../../learning/formats/llama2c.ts';
import { toTensors } from '../../learning/formats/model-folder.ts';
import { tf, type Tensor } from '../../learning/tensorflow.ts';
import { requires } from '../requires.ts';
import { sharedData } from '../shared-data.ts';

/** Greedy continuation from the start token, as the reference implementation of the model gives it. */
const golden = [
  1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338, 401, 396, 267, 337, 410, 408, 419,
  292,
];

let config: DecoderConfig;
let weights: Record<string, Tensor>;

const hasModel = requires('shared-data', 'the decoder against a trained model');

beforeAll(async () => {
  if (!hasModel) return;
  const model = await readLlama2c(join(sharedData, 'stories260k', 'stories260K.bin'));
  config = model.config;
  weights = toTensors(model.weights);
});

const greedy = (logits: Tensor): number[] => Array.from(logits.argMax(-1).dataSync());

describe.runIf(hasModel)('a trained model of 8 heads and 4 key heads', () => {
  it('predicts the known text in one forward pass', () => {
    const tokens = tf.tensor2d([golden.slice(0, -1)], undefined, 'int32');
    expect(greedy(forward(config, weights, tokens))).toEqual(golden.slice(1));
  });

  it('decodes the known text token by token with a cache, compiled, in every row', () => {
    const batch = 2;
    const step = compile(
      (inputs: { weights: Record<string, Tensor>; cache: DecodeCache; tokens: Tensor; positions: Tensor }) =>
        decodeStep(config, inputs.weights, inputs.cache, inputs.tokens, inputs.positions),
      {
        weights,
        cache: emptyCache(config, batch, 32),
        tokens: tf.tensor1d([1, 1], 'int32') as Tensor,
        positions: tf.tensor1d([0, 0], 'int32') as Tensor,
      },
    );
    let cache = emptyCache(config, batch, 32);
    const rows: number[][] = [[1], [1]];
    for (let position = 0; position < golden.length - 1; position++) {
      const tokens = tf.tensor1d(
        rows.map((row) => row[position] as number),
        'int32',
      ) as Tensor;
      const positions = tf.tensor1d([position, position], 'int32') as Tensor;
      const result = step({ weights, cache, tokens, positions });
      disposeTree(cache);
      cache = result.cache;
      greedy(result.logits).forEach((id, row) => rows[row]?.push(id));
    }
    expect(rows).toEqual([golden, golden]);
    step.dispose();
  });

  it('gives each position the logits of the whole pass, also when rows are at different positions', () => {
    const full = forward(config, weights, tf.tensor2d([golden], undefined, 'int32'));
    let cache = emptyCache(config, 2, 16);
    const at = [
      [0, 0],
      [1, 0],
      [2, 1],
      [3, 2],
    ];
    for (const positions of at) {
      const tokens = tf.tensor1d(
        positions.map((position) => golden[position] as number),
        'int32',
      );
      const result = decodeStep(config, weights, cache, tokens, tf.tensor1d(positions, 'int32'));
      cache = result.cache;
      positions.forEach((position, row) => {
        const expected = full.slice([0, position, 0], [1, 1, config.vocab]).flatten();
        const difference = result.logits.slice([row, 0], [1, config.vocab]).flatten().sub(expected).abs().max();
        expect(difference.dataSync()[0]).toBeLessThan(1e-4);
      });
    }
  });

  it('never lets later positions change earlier ones', () => {
    const short = forward(config, weights, tf.tensor2d([golden.slice(0, 8)], undefined, 'int32'));
    const padded = forward(config, weights, tf.tensor2d([[...golden.slice(0, 8), 0, 0, 5]], undefined, 'int32'));
    const difference = padded.slice([0, 0, 0], [1, 8, config.vocab]).sub(short).abs().max();
    expect(difference.dataSync()[0]).toBeLessThan(1e-5);
  });
});
