/**
 * @file Shapes and types of what TensorFlow's ops give, from those of what they take. With them a function is captured
 * without computing anything: no memory, no time, no values.
 */

import { tf, type DataType } from '../tensorflow.ts';

export interface TensorSpec {
  dtype: DataType;
  shape: readonly number[];
}

/** An op as it is being recorded. */
export interface OpCall {
  inputs: readonly TensorSpec[];
  /** Elements of an input that is a literal: a shape, axes ... */
  literal(index: number): readonly number[];
  /** Attribute as tfjs passes it, undefined when it is absent. */
  attribute(name: string): unknown;
  /** Attribute that is a type. */
  type(name: string): DataType;
}

export type ShapeRule = (call: OpCall) => readonly TensorSpec[];

type Shape = readonly number[];

const fail = (message: string): never => {
  throw new RangeError(message);
};

function broadcast(shapes: readonly Shape[]): number[] {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, axis) => {
    const sizes = shapes.map((shape) => shape[axis - rank + shape.length] ?? 1).filter((size) => size !== 1);
    const size = sizes[0] ?? 1;
    return sizes.every((other) => other === size)
      ? size
      : fail(`shapes ${shapes.map((shape) => `[${shape.join(', ')}]`).join(' and ')} don't fit`);
  });
}

const axisOf = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);
const input = ({ inputs }: OpCall, index = 0): TensorSpec => inputs[index] ?? fail(`input ${index} is missing`);
const first = (values: readonly number[]): number => values[0] ?? fail('a literal is empty');
const number = (call: OpCall, name: string): number => Number(call.attribute(name) ?? 0);

/** `shape` with the size at `axis` replaced by `sizes`. */
const replaced = (shape: Shape, axis: number, ...sizes: number[]): number[] => [
  ...shape.slice(0, axis),
  ...sizes,
  ...shape.slice(axis + 1),
];

/** As the input `index`. */
const like =
  (index: number): ShapeRule =>
  (call) => [input(call, index)];

/** The shape that a literal spells out, with the type of another input. */
const spelled =
  (literal: number, type: number): ShapeRule =>
  (call) => [{ dtype: input(call, type).dtype, shape: call.literal(literal) }];

/** The first input's type, broadcast over all inputs. */
const elementwise: ShapeRule = (call) => [
  { dtype: input(call).dtype, shape: broadcast(call.inputs.map(({ shape }) => shape)) },
];

const comparison: ShapeRule = (call) => [{ dtype: 'bool', shape: elementwise(call)[0]!.shape }];

const reduction: ShapeRule = (call) => {
  const { dtype, shape } = input(call);
  const axes = new Set(call.literal(1).map((axis) => axisOf(axis, shape.length)));
  const kept = Boolean(call.attribute('keep_dims'));
  return [{ dtype, shape: shape.flatMap((size, axis) => (!axes.has(axis) ? [size] : kept ? [1] : [])) }];
};

const arg: ShapeRule = (call) => {
  const { shape } = input(call);
  return [{ dtype: 'int32', shape: replaced(shape, axisOf(first(call.literal(1)), shape.length)) }];
};

const matMul: ShapeRule = (call) => {
  const [a, b] = [input(call), input(call, 1)];
  const ends = (shape: Shape, swapped: unknown): [number, number] => {
    const [rows, columns] = shape.slice(-2) as [number, number];
    return swapped ? [columns, rows] : [rows, columns];
  };
  const [rows, inner] = ends(a.shape, call.attribute('adj_x'));
  const [other, columns] = ends(b.shape, call.attribute('adj_y'));
  if (inner !== other) fail(`inner sizes ${inner} and ${other} differ`);
  return [{ dtype: a.dtype, shape: [...broadcast([a.shape.slice(0, -2), b.shape.slice(0, -2)]), rows, columns] }];
};

const conv2d: ShapeRule = (call) => {
  const [x, filter] = [input(call), input(call, 1)];
  if (call.attribute('data_format') !== 'NHWC') fail('only the data format NHWC is known');
  const [strides, dilations] = [call.attribute('strides'), call.attribute('dilations')] as [number[], number[]];
  const explicit = (call.attribute('explicit_paddings') ?? []) as number[];
  const place = (axis: number): number => {
    const size = x.shape[axis] as number;
    const stride = strides[axis] as number;
    if (call.attribute('padding') === 'SAME') return Math.ceil(size / stride);
    const reach = ((filter.shape[axis - 1] as number) - 1) * (dilations[axis] as number);
    const padding = (explicit[2 * axis] ?? 0) + (explicit[2 * axis + 1] ?? 0);
    return Math.ceil((size + padding - reach) / stride);
  };
  return [{ dtype: x.dtype, shape: [x.shape[0] as number, place(1), place(2), filter.shape[3] as number] }];
};

/** The spelled shape may leave one size open as -1. */
const reshape: ShapeRule = (call) => {
  const { dtype, shape } = input(call);
  const wanted = call.literal(1);
  const product = (sizes: readonly number[]): number => sizes.reduce((a, b) => a * b, 1);
  const open = product(shape) / product(wanted.filter((size) => size !== -1));
  const spelt = wanted.map((size) => (size === -1 ? open : size));
  if (product(spelt) !== product(shape)) fail(`[${shape.join(', ')}] can't be reshaped to [${wanted.join(', ')}]`);
  return [{ dtype, shape: spelt }];
};

const transpose: ShapeRule = (call) => {
  const { dtype, shape } = input(call);
  return [{ dtype, shape: call.literal(1).map((axis) => shape[axis] as number) }];
};

const expandDims: ShapeRule = (call) => {
  const { dtype, shape } = input(call);
  const axis = axisOf(first(call.literal(1)), shape.length + 1);
  return [{ dtype, shape: [...shape.slice(0, axis), 1, ...shape.slice(axis)] }];
};

const tile: ShapeRule = (call) => {
  const { dtype, shape } = input(call);
  const times = call.literal(1);
  return [{ dtype, shape: shape.map((size, axis) => size * (times[axis] as number)) }];
};

const stridedSlice: ShapeRule = (call) => {
  const { dtype, shape } = input(call);
  const [begin, end, strides] = [1, 2, 3].map((index) => [...call.literal(index)]) as [number[], number[], number[]];
  const masks = ['begin_mask', 'end_mask', 'ellipsis_mask', 'new_axis_mask', 'shrink_axis_mask'] as const;
  const [b, e, ellipsis, fresh, shrink] = masks.map((name) => number(call, name)) as [number, number, ...number[]];
  const slice = tf.slice_util.sliceInfo([...shape], begin, end, strides, b, e, ellipsis!, fresh!, shrink!);
  return [{ dtype, shape: slice.finalShape }];
};

const pad: ShapeRule = (call) => {
  const { dtype, shape } = input(call);
  const around = call.literal(1);
  return [{ dtype, shape: shape.map((size, axis) => size + around[2 * axis]! + around[2 * axis + 1]!) }];
};

const range: ShapeRule = (call) => {
  const [start, stop, step] = [0, 1, 2].map((index) => first(call.literal(index))) as [number, number, number];
  return [{ dtype: input(call).dtype, shape: [Math.max(0, Math.ceil((stop - start) / step))] }];
};

/** Its last input is the axis. */
const concat: ShapeRule = (call) => {
  const { dtype, shape } = input(call);
  const parts = call.inputs.slice(0, -1);
  const axis = axisOf(first(call.literal(parts.length)), shape.length);
  return [
    {
      dtype,
      shape: replaced(
        shape,
        axis,
        parts.reduce((sum, part) => sum + part.shape[axis]!, 0),
      ),
    },
  ];
};

const pack: ShapeRule = (call) => {
  const { dtype, shape } = input(call);
  const axis = axisOf(number(call, 'axis'), shape.length + 1);
  return [{ dtype, shape: [...shape.slice(0, axis), call.inputs.length, ...shape.slice(axis)] }];
};

const unpack: ShapeRule = (call) => {
  const { dtype, shape } = input(call);
  const one = { dtype, shape: replaced(shape, axisOf(number(call, 'axis'), shape.length)) };
  return Array.from({ length: number(call, 'num') }, () => one);
};

const splitV: ShapeRule = (call) => {
  const { dtype, shape } = input(call);
  const axis = axisOf(first(call.literal(2)), shape.length);
  return call.literal(1).map((size) => ({ dtype, shape: replaced(shape, axis, size) }));
};

const gather: ShapeRule = (call) => {
  const [values, indices] = [input(call), input(call, 1)];
  const axis = axisOf(first(call.literal(2)), values.shape.length);
  const shape = replaced(values.shape, axis, ...indices.shape.slice(number(call, 'batch_dims')));
  return [{ dtype: values.dtype, shape }];
};

const gatherNd: ShapeRule = (call) => {
  const [values, indices] = [input(call), input(call, 1)];
  const depth = indices.shape.at(-1) as number;
  return [{ dtype: values.dtype, shape: [...indices.shape.slice(0, -1), ...values.shape.slice(depth)] }];
};

const segmentSum: ShapeRule = (call) => {
  const [values, segments] = [input(call), input(call, 1)];
  const shape = [first(call.literal(2)), ...values.shape.slice(segments.shape.length)];
  return [{ dtype: values.dtype, shape }];
};

const oneHot: ShapeRule = (call) => [
  { dtype: input(call, 2).dtype, shape: [...input(call).shape, first(call.literal(1))] },
];

const topK: ShapeRule = (call) => {
  const { dtype, shape } = input(call);
  const kept = replaced(shape, shape.length - 1, first(call.literal(1)));
  return [
    { dtype, shape: kept },
    { dtype: 'int32', shape: kept },
  ];
};

const cast: ShapeRule = (call) => [{ dtype: call.type('DstT'), shape: input(call).shape }];

const truth: ShapeRule = (call) => [{ dtype: 'bool', shape: input(call).shape }];

/** condition, then, otherwise */
const select: ShapeRule = (call) => [
  { dtype: input(call, 1).dtype, shape: broadcast(call.inputs.map(({ shape }) => shape)) },
];

export const shapeRules = {
  like,
  spelled,
  elementwise,
  comparison,
  truth,
  cast,
  select,
  reduction,
  arg,
  matMul,
  conv2d,
  reshape,
  transpose,
  expandDims,
  tile,
  stridedSlice,
  pad,
  range,
  concat,
  pack,
  unpack,
  splitV,
  gather,
  gatherNd,
  segmentSum,
  oneHot,
  topK,
};
