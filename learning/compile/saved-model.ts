/** @file Writes a recording as a SavedModel whose nodes call one function that XLA must compile, and loads it. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nativeBackend } from './backend.ts';
import type { DataType } from '../tensorflow.ts';
import { attribute, dataTypes, functionMessage, nodeMessage, savedModelMessage } from './graph-def.ts';
import { opSignatures } from './op-signatures.ts';
import type { RecordedNode, Recording, ValueRef } from './recorder.ts';

/** Address of an output inside a function: `node:outputName:index`. */
function outputAddress(node: RecordedNode, output: number): string {
  if (node.op === 'Const') return `${node.name}:output:0`;
  const signature = opSignatures[node.op] as (typeof opSignatures)[string];
  return signature.list
    ? `${node.name}:${signature.outputs[0]}:${output}`
    : `${node.name}:${signature.outputs[output]}:0`;
}

const address = (ref: ValueRef): string =>
  'input' in ref ? `argument${ref.input}` : outputAddress(ref.node, ref.output);

/** Names of tensors of the graph: what call number `copy` takes and gives. */
export const inputName = (copy: number, index: number): string => `input${copy}_${index}`;
export const outputName = (copy: number, index: number): string => `call${copy}:${index}`;

/** @param copies how often the function can be called in one run of the graph, side by side */
export function graphBytes(recording: Recording, copies: number): Buffer {
  const typed = (prefix: string, dtypes: readonly DataType[]) =>
    dtypes.map((type, index) => ({ name: `${prefix}${index}`, type }));
  const inputTypes = recording.inputs.map(({ dtype }) => dtype);
  const outputTypes = recording.outputs.map(({ spec }) => spec.dtype);
  const mustCompile = { _XlaMustCompile: attribute.boolean(true) };
  const step = functionMessage({
    name: 'captured',
    inputs: typed('argument', inputTypes),
    outputs: typed('result', outputTypes),
    nodes: recording.nodes.map((node) => nodeMessage(node.name, node.op, node.inputs.map(address), node.attributes)),
    returns: Object.fromEntries(recording.outputs.map(({ ref }, index) => [`result${index}`, address(ref)])),
    attributes: mustCompile,
  });
  const callOf = (copy: number): Buffer[] => {
    const placeholders = recording.inputs.map(({ dtype, shape }, index) =>
      nodeMessage(inputName(copy, index), 'Placeholder', [], {
        dtype: attribute.type(dataTypes[dtype]),
        shape: attribute.shape(shape),
      }),
    );
    const inputs = recording.inputs.map((_, index) => inputName(copy, index));
    const call = nodeMessage(`call${copy}`, 'StatefulPartitionedCall', inputs, {
      Tin: attribute.types(inputTypes.map((type) => dataTypes[type])),
      Tout: attribute.types(outputTypes.map((type) => dataTypes[type])),
      f: attribute.functionName('captured'),
      ...mustCompile,
    });
    return [...placeholders, call];
  };
  return savedModelMessage(Array.from({ length: copies }, (_, copy) => callOf(copy)).flat(), [step]);
}

/** Loads a graph into TensorFlow; returns its number. The file lives in the temporary folder only while it is read. */
export function loadGraph(graph: Buffer): number {
  const directory = mkdtempSync(join(tmpdir(), 'epsilonflow-graph-'));
  try {
    writeFileSync(join(directory, 'saved_model.pb'), graph);
    return nativeBackend().binding.loadSavedModel(directory, 'serve');
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
