/**
 * @file Records a function of tensors as a list of TensorFlow ops while it runs once on example inputs.
 *
 * Everything that the function computes passes through two methods of the native backend; both are wrapped for the time
 * of the run. What would silently become a constant of the graph is refused on the spot: random numbers, tensors from
 * outside that are not inputs, values read back to JavaScript, and data made while tracing.
 */

import { EpsilonflowError } from '../../schemas/errors.ts';
import { tf, type DataType, type Tensor } from '../tensorflow.ts';
import { nativeBackend, type DataId, type KernelInput, type NativeBackend, type OpAttribute } from './backend.ts';
import { attribute, dataTypes, filledTensorOf, tensorOf, type Attributes, type GraphType } from './graph-def.ts';
import { opSignatures, randomOps } from './op-signatures.ts';

export interface TensorSpec {
  dtype: DataType;
  shape: readonly number[];
}

export interface RecordedNode {
  name: string;
  op: string;
  inputs: readonly ValueRef[];
  attributes: Attributes;
}

/** A value of the graph: an input of the function, or an output of a node. */
export type ValueRef = { input: number } | { node: RecordedNode; output: number };

export interface Recording {
  inputs: TensorSpec[];
  nodes: RecordedNode[];
  outputs: { ref: ValueRef; spec: TensorSpec }[];
}

const refuse = (message: string, hint: string): never => {
  throw new EpsilonflowError('COMPILE_REFUSED', message, { hint });
};

const specOf = (tensor: Tensor): TensorSpec => ({ dtype: tensor.dtype as DataType, shape: [...tensor.shape] });

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

/** One run of a function under observation. */
class Recorder {
  readonly nodes: RecordedNode[] = [];
  readonly backend: NativeBackend = nativeBackend();
  private readonly values = new Map<DataId, ValueRef>();
  /** Constants by content: shapes and axes recur hundreds of times. */
  private readonly constants = new Map<string, RecordedNode>();
  /** Storage written from JavaScript since the run began. */
  private readonly written = new WeakSet<DataId>();

  constructor(inputs: readonly Tensor[]) {
    inputs.forEach((tensor, index) => this.values.set(tensor.dataId, { input: index }));
  }

  /** Runs `trace` with the backend's methods wrapped. */
  observe<R>(trace: () => R): R {
    const { backend } = this;
    const single = backend.executeSingleOutput;
    const multiple = backend.executeMultipleOutputs;
    const write = backend.write;
    const run = backend.runSavedModel;
    const prototype = tf.Tensor.prototype as unknown as Record<string, unknown>;
    const { dataSync, data } = prototype;
    const random = Math.random;
    const readBack = (): never =>
      refuse(
        'A compiled function reads the value of a tensor (dataSync, arraySync, data ...).',
        'Values are not known when a function is compiled: compute with tensors, or pass the value as an input.',
      );
    backend.executeSingleOutput = (op, attributes, inputs) => {
      this.check(op);
      const output = single.call(backend, op, attributes, inputs);
      this.record(op, attributes, inputs, [output]);
      return output;
    };
    backend.executeMultipleOutputs = (op, attributes, inputs, count) => {
      this.check(op);
      const outputs = multiple.call(backend, op, attributes, inputs, count);
      this.record(op, attributes, inputs, outputs);
      return outputs;
    };
    backend.write = (values, shape, dtype) => {
      const id = write.call(backend, values, shape, dtype);
      this.written.add(id);
      return id;
    };
    backend.runSavedModel = () =>
      refuse('A compiled function calls another compiled function.', 'Call the plain function inside it instead.');
    prototype['dataSync'] = readBack;
    prototype['data'] = readBack;
    Math.random = () =>
      refuse(
        'A compiled function draws random numbers: they would be the same at every call.',
        'Draw them outside and pass them as an input.',
      );
    try {
      return trace();
    } finally {
      Math.random = random;
      prototype['dataSync'] = dataSync;
      prototype['data'] = data;
      Object.assign(backend, { runSavedModel: run, write });
      Object.assign(backend, { executeMultipleOutputs: multiple, executeSingleOutput: single });
    }
  }

  /** The graph's value for a tensor; makes a constant of a literal. */
  resolve(tensor: Tensor, consumer: string, literal: boolean): ValueRef {
    const known = this.values.get(tensor.dataId);
    if (known) return known;
    if (!this.written.has(tensor.dataId)) {
      return refuse(
        `${consumer} uses a tensor of shape [${tensor.shape.join(', ')}] that is not an input of the compiled function.`,
        'Pass every tensor that the function uses as an input.',
      );
    }
    const ref: ValueRef = { node: this.constant(tensor, consumer, literal), output: 0 };
    this.values.set(tensor.dataId, ref);
    return ref;
  }

  private check(op: string): void {
    if (randomOps.has(op)) {
      refuse(`Op ${op} is random: a compiled function must be pure.`, 'Draw outside and pass the numbers as an input.');
    }
    if (!opSignatures[op]) {
      refuse(`Op ${op} cannot be encoded in a compiled function.`, 'Express the computation with other ops.');
    }
  }

  private record(
    op: string,
    attributes: readonly OpAttribute[],
    inputs: readonly KernelInput[],
    outputs: readonly Tensor[],
  ): void {
    const signature = opSignatures[op] as (typeof opSignatures)[string];
    const encoded: Attributes = {};
    for (const given of attributes) encoded[given.name] = encodeAttribute(op, given);
    for (const [name, index] of Object.entries(signature.inferred ?? {})) {
      encoded[name] ??= attribute.type(dataTypes[(inputs[index] as Tensor).dtype as DataType]);
    }
    const refs = inputs.map((input, index): ValueRef => {
      if ('valueArray' in input) return { node: this.int64Constant(input.valueArray), output: 0 };
      return this.resolve(input, `Op ${op}`, signature.literals?.includes(index) ?? false);
    });
    const node = this.add(op, refs, encoded);
    outputs.forEach((tensor, output) => this.values.set(tensor.dataId, { node, output }));
  }

  private add(op: string, inputs: readonly ValueRef[], attributes: Attributes): RecordedNode {
    const node = { name: `${op}_${this.nodes.length}`, op, inputs, attributes };
    this.nodes.push(node);
    return node;
  }

  private constant(tensor: Tensor, consumer: string, literal: boolean): RecordedNode {
    const dtype = tensor.dtype as DataType;
    const values = this.backend.readSync(tensor.dataId);
    const first = values[0];
    const uniform = first !== undefined && values.every((value) => Object.is(value, first));
    if (!uniform && !literal && values.length > 0) {
      refuse(
        `${consumer} uses a tensor of shape [${tensor.shape.join(', ')}] whose elements were made while compiling.`,
        'They would be the same at every call: pass the tensor as an input.',
      );
    }
    const value = uniform
      ? filledTensorOf(dtype, tensor.shape, Number(first))
      : tensorOf(dtype, tensor.shape, Buffer.from(values.buffer, values.byteOffset, values.byteLength));
    return this.shared(dtype, value);
  }

  private shared(type: GraphType, value: Buffer): RecordedNode {
    const key = value.toString('latin1');
    let node = this.constants.get(key);
    if (!node) {
      node = this.add('Const', [], { dtype: attribute.type(dataTypes[type]), value: attribute.tensor(value) });
      this.constants.set(key, node);
    }
    return node;
  }

  private int64Constant(value: Int32Array): RecordedNode {
    const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    return this.shared('int64', tensorOf('int64', [], bytes));
  }
}

/**
 * Runs `trace` once and returns what it did, with the tensors that it returned; the caller disposes those.
 *
 * @throws EpsilonflowError COMPILE_REFUSED
 */
export function record(
  inputs: readonly Tensor[],
  trace: () => readonly Tensor[],
): { recording: Recording; results: readonly Tensor[] } {
  const recorder = new Recorder(inputs);
  const results = recorder.observe(trace);
  const outputs = results.map((tensor, index) => ({
    ref: recorder.resolve(tensor, `Output ${index}`, false),
    spec: specOf(tensor),
  }));
  return { recording: { inputs: inputs.map(specOf), nodes: recorder.nodes, outputs }, results };
}
