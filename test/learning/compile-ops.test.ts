import { beforeAll, describe, expect, it } from 'vitest';
import { compile } from '../../learning/compile/index.ts';
import { opSignatures } from '../../learning/compile/op-signatures.ts';
import { record, specOf } from '../../learning/compile/recorder.ts';
import { leavesOf, rebuild } from '../../learning/compile/tensor-tree.ts';
import { tf, type Tensor } from '../../learning/tensorflow.ts';

/** a, b [2, 3, 4] of any sign; p [2, 3, 4] positive; w [5, 4]; ids [4] in [0, 3); image [2, 5, 6, 2]; kernel [3, 2, 2, 3] */
type Inputs = Record<'a' | 'b' | 'p' | 'w' | 'ids' | 'image' | 'kernel', Tensor>;
type Case = (inputs: Inputs) => Tensor;

/** Numbers without ties, so that maxima and roundings are the same everywhere. */
function numbers(shape: number[], seed: number, low = -2, high = 2): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  const values = Float32Array.from({ length: size }, (_, index) => {
    const fraction = (((index + 1) * 0.6180339887 + seed * 0.137) % 1) * 0.96 + 0.02;
    return low + (high - low) * fraction;
  });
  return tf.tensor(values, shape);
}

const inputs: Inputs = {
  a: numbers([2, 3, 4], 1),
  b: numbers([2, 3, 4], 2),
  p: numbers([2, 3, 4], 3, 0.3, 3),
  w: numbers([5, 4], 4),
  ids: tf.tensor1d([2, 0, 1, 2], 'int32'),
  image: numbers([2, 5, 6, 2], 5),
  kernel: numbers([3, 2, 2, 3], 6),
};

const unary = 'neg exp expm1 tanh sigmoid abs cos sin erf square relu relu6 elu softplus leakyRelu selu softmax';
const positive = 'log log1p sqrt rsqrt reciprocal';
const named = (names: string, of: 'a' | 'p'): Record<string, Case> =>
  Object.fromEntries(
    names
      .split(' ')
      .map((name) => [name, (inputs) => (tf as never as Record<string, (x: Tensor) => Tensor>)[name]!(inputs[of])]),
  );

/** Differentiable, by a name of their own. */
const smooth: Record<string, Case> = {
  ...named(unary, 'a'),
  ...named(positive, 'p'),
  'add, sub, mul, div with broadcasting': ({ a, b, p }) => a.add(b.mean(0)).mul(b).sub(2).div(p),
  'minimum and maximum': ({ a, b }) => tf.minimum(a, b).add(tf.maximum(a, b.mul(0.5))),
  squaredDifference: ({ a, b }) => tf.squaredDifference(a, b),
  'matMul of all transpositions': ({ a, b, w }) => {
    const [x, y] = [a.reshape([6, 4]), b.reshape([4, 6])];
    const products = [
      tf.matMul(x, y),
      tf.matMul(x, x, false, true),
      tf.matMul(y, y, true, false),
      tf.matMul(y, x, true, true),
    ];
    return tf
      .addN(products)
      .mean(1)
      .add(tf.matMul(x, w, false, true).sum());
  },
  'batched matMul': ({ a, b }) => tf.matMul(a, b, false, true),
  'sum, mean, max, min': ({ a }) => tf.concat([a.sum(1), a.mean([1], false), a.max(1), a.min(-2)], 1),
  'reductions that keep axes': ({ a }) => a.sum([0, 2], true).add(a.mean(-1, true)).add(a.max(0, true).min(2, true)),
  cumsum: ({ a }) => a.cumsum(2).add(a.cumsum(2, true, true)),
  'reshape, transpose, expandDims, tile': ({ a }) =>
    tf.tile(a.transpose([2, 0, 1]).reshape([-1, 6]).expandDims(1), [1, 2, 1]),
  'slice, pad, reverse': ({ a }) =>
    a
      .slice([0, 1, 1], [2, 2, 3])
      .pad(
        [
          [0, 0],
          [1, 0],
          [0, 1],
        ],
        3,
      )
      .add(a.reverse([2])),
  'concat, stack, unstack, split': ({ a, b }) => {
    const [first, , third] = tf.unstack(tf.stack([a, b, a.mul(b)], 1), 1) as [Tensor, Tensor, Tensor];
    const [left, right] = tf.split(tf.concat([first, third], 2), [3, 5], 2) as [Tensor, Tensor];
    return left.sum(2).add(right.mean(2));
  },
  gather: ({ a, ids }) => tf.gather(a, ids, 1),
  'gather of rows': ({ w, ids }) => tf.gather(w, ids).mul(ids.toFloat().expandDims(1)),
  where: ({ a, b, ids }) => tf.where(ids.greater(1), a.square(), b.neg()),
  'conv2d, same': ({ image, kernel }) => tf.conv2d(image as never, kernel as never, [1, 2], 'same'),
  'conv2d, valid': ({ image, kernel }) => tf.conv2d(image as never, kernel as never, 2, 'valid'),
  'clip and step': ({ a }) => a.clipByValue(-0.9, 1.1).add(tf.relu(a).step()),
};

/** Without gradient; integers and booleans as numbers. */
const rough: Record<string, Case> = {
  'pow, divNoNan': ({ a, p }) => p.pow(1.7).add(tf.divNoNan(a, p)),
  prod: ({ p }) => p.prod(1),
  'cumsum along an inner axis': ({ a }) => a.cumsum(1, true, true),
  'strided slice': ({ a }) => a.stridedSlice([0, 2, 0], [2, 0, 4], [1, -1, 2]),
  'floor, ceil, round, sign': ({ a }) => a.floor().add(a.ceil().mul(10)).add(a.round().mul(100)).add(a.sign()),
  'floorDiv, mod': ({ a, p }) => tf.floorDiv(a, p).add(tf.mod(a, p)),
  comparisons: ({ a, b }) =>
    tf.stack(
      [a.less(b), a.lessEqual(a), a.greater(b), a.greaterEqual(a), a.equal(b), a.notEqual(b)].map((x) => x.toInt()),
    ),
  logic: ({ a, b }) => a.greater(0).logicalAnd(b.greater(0)).logicalOr(a.less(-1)).logicalNot().toInt(),
  'any, all': ({ a, b }) => a.greater(b).any(2).toInt().add(b.less(3).all(2).toInt()),
  'not finite': ({ a, p }) => {
    const odd = a.relu().log();
    return tf
      .isNaN(a.log())
      .toInt()
      .add(tf.isInf(odd).toInt())
      .add(tf.isFinite(odd.add(p)).toInt());
  },
  'argMax, argMin': ({ a }) => a.argMax(-1).mul(10).add(a.argMin(-1)),
  'onesLike, zerosLike, fill, range': ({ a }) =>
    tf
      .onesLike(a)
      .add(tf.zerosLike(a))
      .add(tf.fill([4], 7))
      .mul(tf.range(0, 8, 2).reshape([4]))
      .add(tf.range(4, 0, -1)),
  oneHot: ({ ids }) => tf.oneHot(ids, 3, 5, -1),
  'cast back': ({ a }) => a.mul(10).toInt().toBool().toFloat(),
  'gatherND, scatterND': ({ a, ids }) => {
    const pairs = tf.stack([tf.zerosLike(ids), ids], 1);
    return tf.scatterND(tf.range(0, 4, 1, 'int32').reshape([4, 1]), tf.gatherND(a, pairs), [6, 4]) as Tensor;
  },
  unsortedSegmentSum: ({ a, ids }) => tf.unsortedSegmentSum(a.reshape([4, 6]), ids as never, 3),
  'topk values': ({ a }) => tf.topk(a, 3).values,
  'topk indices': ({ a }) => tf.topk(a, 2).indices,
};

const forward = (given: Inputs): Record<string, Tensor> =>
  Object.fromEntries(Object.entries({ ...smooth, ...rough }).map(([name, compute]) => [name, compute(given)]));

const floats = ['a', 'b', 'p', 'w', 'image', 'kernel'] as const;

/** Gradients of a weighted sum of each result by all inputs. */
function backward(given: Inputs): Record<string, Tensor[]> {
  const gradients = (compute: Case): Tensor[] => {
    const scalar = (...values: Tensor[]): Tensor => {
      const own = { ...given, ...Object.fromEntries(floats.map((name, index) => [name, values[index]])) };
      const result = compute(own as Inputs);
      // tfjs has no gradient by an input that a function leaves out.
      const untouched = tf.addN(values.map((value) => value.sum().mul(0)));
      return result
        .mul(
          tf
            .range(1, 1 + result.size, 1, 'float32')
            .sin()
            .reshape(result.shape),
        )
        .sum()
        .add(untouched);
    };
    const used = tf.grads(scalar as never);
    return used(floats.map((name) => given[name])) as Tensor[];
  };
  return Object.fromEntries(
    Object.entries(smooth).map(([name, compute]) => {
      return [name, gradients(compute)];
    }),
  );
}

function expectClose(name: string, actual: Tensor, expected: Tensor): void {
  expect(specOf(actual), name).toEqual(specOf(expected));
  const [a, b] = [actual.dataSync(), expected.dataSync()];
  const scale = Math.max(1, ...b.map(Math.abs));
  a.forEach((value, index) => expect(Math.abs(value - b[index]!), name).toBeLessThanOrEqual(1e-5 * scale));
}

const recorded = new Set<string>();
for (const compute of [forward, backward] as ((given: Inputs) => never)[]) {
  beforeAll(() => {
    const leaves = leavesOf(inputs);
    const recording = record(
      leaves.map(({ tensor }) => specOf(tensor)),
      (tensors) => leavesOf(compute(rebuild(inputs, tensors))),
    );
    for (const { op } of recording.nodes) recorded.add(op);
  });
}

describe('compiled ops equal eager ones', () => {
  it('forward', () => {
    const compiled = compile(forward, inputs);
    const [actual, expected] = [compiled(inputs), forward(inputs)];
    for (const [name, tensor] of Object.entries(expected)) expectClose(name, actual[name]!, tensor);
    compiled.dispose();
  });

  it('backward', () => {
    const compiled = compile(backward, inputs);
    const [actual, expected] = [compiled(inputs), backward(inputs)];
    for (const [name, tensors] of Object.entries(expected)) {
      tensors.forEach((tensor, index) => expectClose(`${name} by ${floats[index]}`, actual[name]![index]!, tensor));
    }
    compiled.dispose();
  });

  it('for every op that can be encoded', () => {
    expect(Object.keys(opSignatures).filter((op) => !recorded.has(op))).toEqual([]);
  });
});
