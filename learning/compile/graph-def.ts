/**
 * @file TensorFlow's graph messages (tensorflow/core/framework/*.proto), as far as a captured function needs them.
 * Numbers are the field numbers of those files.
 */

import type { DataType } from '../tensorflow.ts';
import { bytesField, floatField, integerField, mapField, message, type Bytes } from './wire.ts';

/** Numbers of `DataType` in types.proto. */
export const dataTypes = { float32: 1, int32: 3, bool: 10 } as const satisfies Record<DataType, number>;

const shapeMessage = (shape: readonly number[]): Bytes =>
  message(shape.map((size) => bytesField(2, integerField(1, size))));

/** TensorProto of all elements, little endian. */
export const tensorOf = (type: DataType, shape: readonly number[], content: Bytes): Bytes =>
  message(integerField(1, dataTypes[type]), bytesField(2, shapeMessage(shape)), bytesField(4, content));

/** TensorProto whose elements are all the same: only one is stored. */
export function filledTensorOf(type: DataType, shape: readonly number[], value: number): Bytes {
  const single =
    type === 'float32' ? floatField(5, value) : type === 'int32' ? integerField(7, value) : integerField(11, value);
  return message(integerField(1, dataTypes[type]), bytesField(2, shapeMessage(shape)), single);
}

/** AttrValue messages. */
export const attribute = {
  string: (value: string): Bytes => bytesField(2, value),
  integer: (value: number): Bytes => integerField(3, value),
  float: (value: number): Bytes => floatField(4, value),
  boolean: (value: boolean): Bytes => integerField(5, value ? 1 : 0),
  /** `value` is a number of `DataType`. */
  type: (value: number): Bytes => integerField(6, value),
  shape: (value: readonly number[]): Bytes => bytesField(7, shapeMessage(value)),
  tensor: (value: Bytes): Bytes => bytesField(8, value),
  functionName: (value: string): Bytes => bytesField(10, bytesField(1, value)),
  integers: (values: readonly number[]): Bytes => bytesField(1, message(values.map((value) => integerField(3, value)))),
  floats: (values: readonly number[]): Bytes => bytesField(1, message(values.map((value) => floatField(4, value)))),
  booleans: (values: readonly boolean[]): Bytes =>
    bytesField(1, message(values.map((value) => integerField(5, value ? 1 : 0)))),
  types: (values: readonly number[]): Bytes => bytesField(1, message(values.map((value) => integerField(6, value)))),
};

export type Attributes = Record<string, Bytes>;

export const nodeMessage = (name: string, op: string, inputs: readonly string[], attributes: Attributes): Bytes =>
  message(
    bytesField(1, name),
    bytesField(2, op),
    inputs.map((input) => bytesField(3, input)),
    mapField(5, attributes),
  );

export interface FunctionParts {
  name: string;
  inputs: readonly { name: string; type: DataType }[];
  outputs: readonly { name: string; type: DataType }[];
  nodes: readonly Bytes[];
  /** Output name -> tensor inside the function. */
  returns: Record<string, string>;
  attributes: Attributes;
}

export function functionMessage(parts: FunctionParts): Bytes {
  const argument = ({ name, type }: { name: string; type: DataType }): Bytes =>
    message(bytesField(1, name), integerField(3, dataTypes[type]));
  const signature = message(
    bytesField(1, parts.name),
    parts.inputs.map((input) => bytesField(2, argument(input))),
    parts.outputs.map((output) => bytesField(3, argument(output))),
  );
  return message(
    bytesField(1, signature),
    parts.nodes.map((node) => bytesField(3, node)),
    mapField(4, parts.returns),
    mapField(5, parts.attributes),
  );
}

/** Producer version of a GraphDef that every TensorFlow 2 from 2.9 on reads. */
const producerVersion = 1087;

/** A SavedModel with one graph under the tag `serve`. */
export function savedModelMessage(nodes: readonly Bytes[], functions: readonly Bytes[]): Bytes {
  const library = message(functions.map((definition) => bytesField(1, definition)));
  const graph = message(
    nodes.map((node) => bytesField(1, node)),
    bytesField(2, library),
    bytesField(4, integerField(1, producerVersion)),
  );
  const metaGraph = message(bytesField(1, bytesField(4, 'serve')), bytesField(2, graph));
  return message(integerField(1, 1), bytesField(2, metaGraph));
}
