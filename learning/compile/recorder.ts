/**
 * @file Records a function of tensors as a list of TensorFlow ops while it runs once on tensors without values.
 *
 * Everything that the function computes passes through two methods of the native backend; both are replaced for the time
 * of the run by ones that only write down the op and the shape of its result. What would silently become a constant of
 * the graph is refused on the spot: random numbers, tensors from outside that are not inputs, values read back to
 * JavaScript, and data made while tracing.
 */

import { EpsilonflowError } from '../../schemas/errors.ts';
import { tf, type DataType, type Tensor } from '../tensorflow.ts';
import { nativeBackend, type DataId, type NativeBackend, type OpAttribute } from './backend.ts';
import { attribute, dataTypes, filledTensorOf, tensorOf, type Attributes } from './graph-def.ts';
import type { OpCall, TensorSpec } from './op-shapes.ts';
import { opSignatures, randomFunctions, randomOps, type OpSignature } from './op-signatures.ts';
import { framesNeeded, placeOf } from './place.ts';

export interface RecordedNode {
  name: string;
  op: string;
  inputs: readonly ValueRef[];
  attributes: Attributes;
  /** Taken where the op was recorded. */
  trace: Error;
}

/** A value of the graph: an input of the function, or an output of a node. */
export type ValueRef = { input: number } | { node: RecordedNode; output: number };

export interface Recording {
  inputs: readonly TensorSpec[];
  nodes: readonly RecordedNode[];
  outputs: readonly { ref: ValueRef; spec: TensorSpec }[];
}

/** @param trace where the fault lies; the present place by default */
export function refuse(message: string, hint: string, trace = new Error()): never {
  const place = placeOf(trace);
  throw new EpsilonflowError('COMPILE_REFUSED', place === undefined ? message : `${message} At ${place}.`, { hint });
}

export const specOf = (tensor: Tensor): TensorSpec => ({ dtype: tensor.dtype as DataType, shape: [...tensor.shape] });

const list = (shape: readonly number[]): string => `[${shape.join(', ')}]`;

/** Encodes an attribute as tfjs passes it to eager ops. */
function encodeAttribute(op: string, { name, type, value }: OpAttribute): Buffer {
  const { binding } = nativeBackend();
  switch (type) {
    case binding.TF_ATTR_TYPE:
      return attribute.type(value as number);
    case binding.TF_ATTR_BOOL:
    case binding.TF_BOOL:
      return Array.isArray(value) ? attribute.booleans(value as boolean[]) : attribute.boolean(Boolean(value));
    case binding.TF_ATTR_INT:
      return Array.isArray(value) ? attribute.integers(value as number[]) : attribute.integer(value as number);
    case binding.TF_ATTR_FLOAT:
      return Array.isArray(value) ? attribute.floats(value as number[]) : attribute.float(value as number);
    case binding.TF_ATTR_STRING:
      return attribute.string(value as string);
    case binding.TF_ATTR_SHAPE:
      return attribute.shape(value as number[]);
    default:
      return refuse(
        `Op ${op} cannot be encoded: attribute ${name} has the unknown type ${type}.`,
        'Express the computation with other ops.',
      );
  }
}

const typeNames = new Map(Object.entries(dataTypes).map(([name, number]) => [number as number, name as DataType]));

/** One run of a function under observation. */
class Recorder {
  readonly nodes: RecordedNode[] = [];
  private readonly backend: NativeBackend = nativeBackend();
  private readonly readSync = this.backend.readSync;
  private readonly write = this.backend.write;
  private readonly values = new Map<DataId, ValueRef>();
  /** Constants by content: shapes and axes recur hundreds of times. */
  private readonly constants = new Map<string, RecordedNode>();
  /** Storage written from JavaScript since the run began, and where. */
  private readonly written = new WeakMap<DataId, Error>();

  /** A tensor without values. */
  standIn({ dtype, shape }: TensorSpec, ref: ValueRef): Tensor {
    const dataId = this.write.call(this.backend, null, [...shape], dtype);
    this.values.set(dataId, ref);
    return tf.engine().makeTensorFromTensorInfo({ dataId, shape: [...shape], dtype });
  }

  /** Runs `trace` with the backend's methods replaced. */
  observe<R>(trace: () => R): R {
    const { backend } = this;
    const { executeSingleOutput, executeMultipleOutputs, runSavedModel } = backend;
    const tensor = tf.Tensor.prototype as unknown as Record<string, unknown>;
    const { dataSync, data } = tensor;
    const variable = tf.Variable.prototype as unknown as Record<string, unknown>;
    const { assign } = variable;
    const { random } = Math;
    const engine = tf.engine();
    const { startScope } = engine;
    const { stackTraceLimit } = Error;
    const readBack = (): never =>
      refuse(
        'A compiled function reads the value of a tensor (dataSync, arraySync, data ...).',
        'Values are not known when a function is compiled: compute with tensors, or pass the value as an input.',
      );
    Error.stackTraceLimit = framesNeeded;
    backend.executeSingleOutput = (op, attributes, inputs) => this.record(op, attributes, inputs)[0] as Tensor;
    backend.executeMultipleOutputs = (op, attributes, inputs) => this.record(op, attributes, inputs);
    backend.write = (values, shape, dtype) => {
      const id = this.write.call(backend, values, shape, dtype);
      this.written.set(id, new Error());
      return id;
    };
    // tfjs checks indices of gathers; those that it cannot know yet pass as zeros.
    backend.readSync = (id) => (this.written.has(id) ? this.readSync.call(backend, id) : new Int32Array(0));
    backend.runSavedModel = () =>
      refuse('A compiled function calls another compiled function.', 'Call the plain function inside it instead.');
    tensor['dataSync'] = readBack;
    tensor['data'] = readBack;
    variable['assign'] = () =>
      refuse('A compiled function assigns a variable.', 'Return the new value and assign it outside.');
    const drawn = (what: string): never =>
      refuse(
        `A compiled function draws random numbers (${what}): they would be the same at every call.`,
        'Draw them outside and pass them as an input.',
      );
    Math.random = () => drawn('Math.random');
    // tfjs opens a scope for each of its functions.
    engine.startScope = (name) => {
      const called = name?.replace(/__op$/, '') ?? '';
      if (randomFunctions.has(called)) drawn(`tf.${called}`);
      startScope.call(engine, name);
    };
    try {
      return trace();
    } finally {
      Object.assign(Math, { random });
      Object.assign(engine, { startScope });
      Object.assign(variable, { assign });
      Object.assign(tensor, { dataSync, data });
      const { readSync, write } = this;
      Object.assign(backend, { executeSingleOutput, executeMultipleOutputs, runSavedModel, readSync, write });
      Error.stackTraceLimit = stackTraceLimit;
    }
  }

  /** The graph's value for a tensor; makes a constant of a literal. */
  resolve(tensor: Tensor, consumer: string, literal: boolean): ValueRef {
    const known = this.values.get(tensor.dataId);
    if (known) return known;
    if (!this.written.has(tensor.dataId)) {
      return refuse(
        `${consumer} uses a tensor of shape ${list(tensor.shape)} that is not an input of the compiled function.`,
        'Pass every tensor that the function uses as an input.',
      );
    }
    const ref: ValueRef = { node: this.constant(tensor, consumer, literal), output: 0 };
    this.values.set(tensor.dataId, ref);
    return ref;
  }

  private signature(op: string): OpSignature {
    if (randomOps.has(op)) {
      refuse(`Op ${op} is random: a compiled function must be pure.`, 'Draw outside and pass the numbers as an input.');
    }
    return (
      opSignatures[op] ??
      refuse(`Op ${op} cannot be encoded in a compiled function.`, 'Express the computation with other ops.')
    );
  }

  private record(op: string, attributes: readonly OpAttribute[], inputs: readonly Tensor[]): Tensor[] {
    const signature = this.signature(op);
    const encoded: Attributes = {};
    for (const given of attributes) encoded[given.name] = encodeAttribute(op, given);
    for (const [name, index] of Object.entries(signature.inferred ?? {})) {
      encoded[name] ??= attribute.type(dataTypes[inputs[index]?.dtype as DataType]);
    }
    const refs = inputs.map((input, index) =>
      this.resolve(input, `Op ${op}`, signature.literals?.includes(index) ?? false),
    );
    const specs = this.outputsOf(op, signature, attributes, inputs);
    const node = this.add(op, refs, encoded);
    return specs.map((spec, output) => this.standIn(spec, { node, output }));
  }

  private outputsOf(
    op: string,
    { shape }: OpSignature,
    attributes: readonly OpAttribute[],
    inputs: readonly Tensor[],
  ): readonly TensorSpec[] {
    const find = (name: string): unknown => attributes.find((given) => given.name === name)?.value;
    const call: OpCall = {
      inputs: inputs.map(specOf),
      attribute: find,
      type: (name) => typeNames.get(find(name) as number) ?? refuse(`Op ${op} gives an unknown type.`, 'Cast it.'),
      literal: (index) => {
        const { dataId } = inputs[index] as Tensor;
        if (this.written.has(dataId)) return Array.from(this.readSync.call(this.backend, dataId));
        return refuse(`Op ${op} takes a shape or an axis that is not known.`, 'Compute it from the shapes of tensors.');
      },
    };
    try {
      return shape(call);
    } catch (cause) {
      if (!(cause instanceof RangeError)) throw cause;
      return refuse(`Op ${op} cannot be encoded: ${cause.message}.`, 'See what is passed to it.');
    }
  }

  private add(op: string, inputs: readonly ValueRef[], attributes: Attributes): RecordedNode {
    const node = { name: `${op}_${this.nodes.length}`, op, inputs, attributes, trace: new Error() };
    this.nodes.push(node);
    return node;
  }

  private constant(tensor: Tensor, consumer: string, literal: boolean): RecordedNode {
    const dtype = tensor.dtype as DataType;
    const values = this.readSync.call(this.backend, tensor.dataId);
    const first = values[0];
    const uniform = first !== undefined && values.every((value) => Object.is(value, first));
    if (!uniform && !literal && values.length > 0) {
      refuse(
        `${consumer} uses a tensor of shape ${list(tensor.shape)} whose elements were made while compiling.`,
        'They would be the same at every call: pass the tensor as an input.',
        this.written.get(tensor.dataId),
      );
    }
    const value = uniform
      ? filledTensorOf(dtype, tensor.shape, Number(first))
      : tensorOf(dtype, tensor.shape, Buffer.from(values.buffer, values.byteOffset, values.byteLength));
    const key = value.toString('latin1');
    let node = this.constants.get(key);
    if (!node) {
      node = this.add('Const', [], { dtype: attribute.type(dataTypes[dtype]), value: attribute.tensor(value) });
      this.constants.set(key, node);
    }
    return node;
  }
}

/**
 * Runs `trace` once on tensors without values and returns what it did. Nothing is computed, and no tensor gets memory.
 *
 * @param trace gives the outputs with their names
 * @throws EpsilonflowError COMPILE_REFUSED
 */
export function record(
  inputs: readonly TensorSpec[],
  trace: (inputs: readonly Tensor[]) => readonly { path: string; tensor: Tensor }[],
): Recording {
  const recorder = new Recorder();
  let outputs: Recording['outputs'] = [];
  tf.tidy(() => {
    const given = inputs.map((spec, input) => recorder.standIn(spec, { input }));
    recorder.observe(() => {
      outputs = trace(given).map(({ path, tensor }) => ({
        ref: recorder.resolve(tensor, `Output ${path}`, false),
        spec: specOf(tensor),
      }));
    });
  });
  return { inputs, nodes: recorder.nodes, outputs };
}
