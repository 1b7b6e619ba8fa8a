/**
 * @file What the encoder must know about each TensorFlow op beyond what tfjs tells it: the shapes of its outputs, their
 * names (tensors inside a function are addressed `node:output:index`), type attributes that eager mode infers, and which
 * inputs are literals such as shapes and axes, so that a small integer tensor made while tracing is legitimate there.
 */

import { shapeRules as shapes, type ShapeRule } from './op-shapes.ts';

export interface OpSignature {
  outputs: readonly string[];
  shape: ShapeRule;
  /** The op has one output, a list. */
  list?: true;
  /** Type attribute -> index of the input that has the type. */
  inferred?: Readonly<Record<string, number>>;
  /** Indices of inputs that hold shapes, axes, permutations ... */
  literals?: readonly number[];
}

const family = (output: string, shape: ShapeRule, names: string): Record<string, OpSignature> =>
  Object.fromEntries(names.split(' ').map((name) => [name, { outputs: [output], shape }]));

const reductions = (names: string): Record<string, OpSignature> =>
  Object.fromEntries(
    names.split(' ').map((name) => [name, { outputs: ['output'], shape: shapes.reduction, literals: [1] }]),
  );

const unary =
  'Neg Exp Expm1 Log Log1p Sqrt Rsqrt Square Tanh Sigmoid Abs Sign Cos Sin Erf Reciprocal Floor Ceil Round ZerosLike';

export const opSignatures: Readonly<Record<string, OpSignature>> = {
  ...family('z', shapes.elementwise, 'Add Sub Mul RealDiv Maximum Minimum Pow SquaredDifference'),
  ...family('z', shapes.elementwise, 'FloorDiv FloorMod'),
  ...family('z', shapes.comparison, 'Less LessEqual Greater GreaterEqual Equal NotEqual LogicalAnd LogicalOr'),
  ...family('y', shapes.like(0), `${unary} OnesLike LogicalNot`),
  ...family('y', shapes.truth, 'IsNan IsInf IsFinite'),
  ...family('y', shapes.cast, 'Cast'),
  ...family('activations', shapes.like(0), 'Relu Relu6 Elu Softplus LeakyRelu Selu'),
  ...family('backprops', shapes.like(0), 'EluGrad'),
  ...family('output', shapes.select, 'Select'),
  ...family('output', shapes.matMul, 'BatchMatMulV2'),
  ...family('output', shapes.conv2d, 'Conv2D'),
  ...reductions('Sum Mean Max Min Prod Any All'),
  Softmax: { outputs: ['softmax'], shape: shapes.like(0), inferred: { T: 0 } },
  ArgMax: { outputs: ['output'], shape: shapes.arg, literals: [1] },
  ArgMin: { outputs: ['output'], shape: shapes.arg, literals: [1] },
  Cumsum: { outputs: ['out'], shape: shapes.like(0), literals: [1] },
  Reshape: { outputs: ['output'], shape: shapes.reshape, literals: [1] },
  ExpandDims: { outputs: ['output'], shape: shapes.expandDims, literals: [1], inferred: { T: 0 } },
  Transpose: { outputs: ['y'], shape: shapes.transpose, literals: [1] },
  Tile: { outputs: ['output'], shape: shapes.tile, literals: [1] },
  ReverseV2: { outputs: ['output'], shape: shapes.like(0), literals: [1] },
  Slice: { outputs: ['output'], shape: shapes.spelled(2, 0), literals: [1, 2] },
  StridedSlice: { outputs: ['output'], shape: shapes.stridedSlice, literals: [1, 2, 3] },
  PadV2: { outputs: ['output'], shape: shapes.pad, literals: [1, 2] },
  Fill: { outputs: ['output'], shape: shapes.spelled(0, 1), literals: [0, 1] },
  Range: { outputs: ['output'], shape: shapes.range, literals: [0, 1, 2] },
  ConcatV2: { outputs: ['output'], shape: shapes.concat },
  Pack: { outputs: ['output'], shape: shapes.pack, inferred: { T: 0 } },
  AddN: { outputs: ['sum'], shape: shapes.like(0) },
  GatherV2: { outputs: ['output'], shape: shapes.gather, literals: [2], inferred: { Tparams: 0, Tindices: 1 } },
  GatherNd: { outputs: ['output'], shape: shapes.gatherNd },
  ScatterNd: { outputs: ['output'], shape: shapes.spelled(2, 1), literals: [2] },
  UnsortedSegmentSum: { outputs: ['output'], shape: shapes.segmentSum, literals: [2] },
  OneHot: { outputs: ['output'], shape: shapes.oneHot, literals: [1], inferred: { T: 2, TI: 0 } },
  Conv2DBackpropInput: { outputs: ['output'], shape: shapes.spelled(0, 2), literals: [0] },
  Conv2DBackpropFilter: { outputs: ['output'], shape: shapes.spelled(1, 0), literals: [1] },
  TopKV2: { outputs: ['values', 'indices'], shape: shapes.topK, literals: [1] },
  Unpack: { outputs: ['output'], list: true, shape: shapes.unpack },
  SplitV: { outputs: ['output'], list: true, shape: shapes.splitV, literals: [1, 2] },
};

/** Ops whose result changes from call to call: in a captured graph they would also defy resuming bit for bit. */
export const randomOps: ReadonlySet<string> = new Set([
  'Multinomial',
  'RandomUniform',
  'RandomUniformInt',
  'RandomStandardNormal',
  'TruncatedNormal',
  'RandomGamma',
  'RandomShuffle',
  'StatelessRandomUniform',
  'StatelessRandomNormal',
  'StatelessMultinomial',
]);

/** Functions of tfjs that draw numbers in JavaScript, with a generator of their own where they are given a seed. */
export const randomFunctions: ReadonlySet<string> = new Set([
  'rand',
  'randomGamma',
  'randomNormal',
  'randomStandardNormal',
  'randomUniform',
  'randomUniformInt',
  'truncatedNormal',
]);
