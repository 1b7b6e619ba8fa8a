/**
 * @file What the encoder must know about each TensorFlow op beyond what tfjs tells it: the names of its outputs (tensors
 * inside a function are addressed `node:output:index`), type attributes that eager mode infers, and which inputs are
 * literals such as shapes and axes, so that a small integer tensor made while tracing is legitimate there.
 */

export interface OpSignature {
  outputs: readonly string[];
  /** The op has one output, a list. */
  list?: true;
  /** Type attribute -> index of the input that has the type. */
  inferred?: Readonly<Record<string, number>>;
  /** Indices of inputs that hold shapes, axes, permutations ... */
  literals?: readonly number[];
}

const family = (output: string, names: string): Record<string, OpSignature> =>
  Object.fromEntries(names.split(' ').map((name) => [name, { outputs: [output] }]));

export const opSignatures: Readonly<Record<string, OpSignature>> = {
  ...family('z', 'Add AddV2 Sub Mul Div RealDiv DivNoNan Maximum Minimum Pow SquaredDifference FloorDiv FloorMod Mod'),
  ...family('z', 'Less LessEqual Greater GreaterEqual Equal NotEqual LogicalAnd LogicalOr'),
  ...family('y', 'Neg Exp Expm1 Log Log1p Sqrt Rsqrt Square Tanh Sigmoid Abs Sign Cos Sin Erf Reciprocal LogicalNot'),
  ...family('y', 'Cast ZerosLike OnesLike Floor Ceil Round IsNan IsInf IsFinite'),
  ...family('activations', 'Relu Relu6 Elu Softplus LeakyRelu Selu'),
  ...family('backprops', 'EluGrad'),
  ...family('output', 'BatchMatMulV2 Select SelectV2 Conv2D'),
  Softmax: { outputs: ['softmax'], inferred: { T: 0 } },
  Sum: { outputs: ['output'], literals: [1] },
  Mean: { outputs: ['output'], literals: [1] },
  Max: { outputs: ['output'], literals: [1] },
  Min: { outputs: ['output'], literals: [1] },
  Prod: { outputs: ['output'], literals: [1] },
  Any: { outputs: ['output'], literals: [1] },
  All: { outputs: ['output'], literals: [1] },
  ArgMax: { outputs: ['output'], literals: [1] },
  ArgMin: { outputs: ['output'], literals: [1] },
  Cumsum: { outputs: ['out'], literals: [1] },
  Reshape: { outputs: ['output'], literals: [1] },
  ExpandDims: { outputs: ['output'], literals: [1], inferred: { T: 0 } },
  Transpose: { outputs: ['y'], literals: [1] },
  Tile: { outputs: ['output'], literals: [1] },
  Reverse: { outputs: ['output'], literals: [1] },
  ReverseV2: { outputs: ['output'], literals: [1] },
  Slice: { outputs: ['output'], literals: [1, 2] },
  StridedSlice: { outputs: ['output'], literals: [1, 2, 3] },
  PadV2: { outputs: ['output'], literals: [1, 2] },
  Fill: { outputs: ['output'], literals: [0, 1] },
  Range: { outputs: ['output'], literals: [0, 1, 2] },
  ConcatV2: { outputs: ['output'] },
  Pack: { outputs: ['output'], inferred: { T: 0 } },
  AddN: { outputs: ['sum'] },
  GatherV2: { outputs: ['output'], literals: [2], inferred: { Tparams: 0, Tindices: 1 } },
  GatherNd: { outputs: ['output'] },
  ScatterNd: { outputs: ['output'], literals: [2] },
  UnsortedSegmentSum: { outputs: ['output'], literals: [2] },
  OneHot: { outputs: ['output'], literals: [1], inferred: { T: 2, TI: 0 } },
  Conv2DBackpropInput: { outputs: ['output'], literals: [0] },
  Conv2DBackpropFilter: { outputs: ['output'], literals: [1] },
  TopKV2: { outputs: ['values', 'indices'], literals: [1] },
  Unpack: { outputs: ['output'], list: true },
  Split: { outputs: ['output'], list: true, literals: [0] },
  SplitV: { outputs: ['output'], list: true, literals: [1, 2] },
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
