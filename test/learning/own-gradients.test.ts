import { describe, expect, it } from 'vitest';
import { attend, layerNorm, maskBias, rmsNorm, swiglu } from '../../learning/decoder/layers.ts';
import { crossEntropy } from '../../learning/decoder/loss.ts';
import { rotaryTables, rotate } from '../../learning/decoder/rotary.ts';
import { tf, type Tensor } from '../../learning/tensorflow.ts';

type Layer = (...inputs: Tensor[]) => Tensor;

const random = (shape: number[], seed: number): Tensor => tf.randomNormal(shape, 0, 1, 'float32', seed);

/** Value and gradients, each element weighted on its own. */
function observed(layer: Layer, inputs: Tensor[]): Tensor[] {
  const weighted = (...list: Tensor[]): Tensor => {
    const value = layer(...list);
    return value.mul(random(value.shape, 99)).sum();
  };
  return [layer(...inputs), ...(tf.grads(weighted as never)(inputs) as Tensor[])];
}

const epsilon = 1e-5;
const rms: Layer = (x) => x!.div(x!.square().mean(-1, true).add(epsilon).sqrt());
const causal = maskBias(tf.lessEqual(tf.range(0, 5).reshape([1, 5]), tf.range(0, 5).reshape([5, 1])));
const targets = tf.tensor1d([3, 0, 6, 2], 'int32') as Tensor;
const weights = tf.tensor1d([0.5, 1, 0, 2]) as Tensor;
const positions = tf.range(0, 3).reshape([1, 3]) as Tensor;
const tables = rotaryTables(positions, { width: 4, theta: 100 });

const cases: [string, Layer, Layer, number[][]][] = [
  ['RMSNorm', (x) => rmsNorm(x!, epsilon), rms, [[4, 6]]],
  ['LayerNorm', (x) => layerNorm(x!, epsilon), (x) => rms(x!.sub(x!.mean(-1, true))), [[4, 6]]],
  [
    'SwiGLU',
    (gate, up) => swiglu(gate!, up!),
    (gate, up) => gate!.mul(gate!.sigmoid()).mul(up!),
    [
      [4, 6],
      [4, 6],
    ],
  ],
  [
    'attention',
    (queries, keys, values) => attend(queries!, keys!, values!, causal),
    (queries, keys, values) =>
      tf.matMul(tf.softmax(tf.matMul(queries!, keys!, false, true).div(2).add(causal)), values!),
    [
      [2, 3, 5, 4],
      [2, 3, 5, 4],
      [2, 3, 5, 4],
    ],
  ],
  [
    'cross-entropy',
    (logits) => crossEntropy(logits!, targets, weights),
    (logits) =>
      tf
        .logSoftmax(logits!)
        .mul(tf.oneHot(targets as never, 7))
        .sum(-1)
        .mul(weights)
        .neg(),
    [[4, 7]],
  ],
  [
    'rotary positions',
    (x) => rotate(x!, tables),
    (x) => {
      const [first, second] = tf.split(x!, 2, -1) as [Tensor, Tensor];
      const { cos, sin } = tables;
      return tf.concat([first.mul(cos).sub(second.mul(sin)), second.mul(cos).add(first.mul(sin))], -1);
    },
    [[2, 3, 2, 4]],
  ],
];

describe('layers that write their gradient down', () => {
  it.each(cases)('%s has the value and gradients that the tape finds', (_, layer, reference, shapes) => {
    const inputs = shapes.map((shape, index) => random(shape, index + 1));
    const [found, expected] = [observed(layer, inputs), observed(reference, inputs)];
    found.forEach((tensor, index) => {
      const difference = tensor
        .sub(expected[index] as Tensor)
        .abs()
        .max()
        .dataSync()[0];
      expect(tensor.shape).toEqual(expected[index]!.shape);
      expect(difference).toBeLessThan(5e-6);
    });
  });
});
