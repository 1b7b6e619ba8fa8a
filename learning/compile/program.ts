/** @file One captured program: a function for one set of input shapes and types, loaded into TensorFlow. */

import { setCardFlags, type Tensor } from '../tensorflow.ts';
import { nativeBackend } from './backend.ts';
import type { TensorSpec } from './op-shapes.ts';
import { record, refuse, type Recording } from './recorder.ts';
import { graphBytes, loadGraph } from './saved-model.ts';
import { leavesOf, rebuild, type TensorTree } from './tensor-tree.ts';

export interface Program<O extends TensorTree> {
  readonly inputs: readonly TensorSpec[];
  /** @param inputs of the program's shapes and types, in its order */
  run(inputs: readonly Tensor[]): O;
  dispose(): void;
}

/** What a value captured from JavaScript would differ in is found by running the function twice. */
function refuseDifference(first: Recording, second: Recording): never {
  const at = first.nodes.findIndex((node, index) => {
    const other = second.nodes[index];
    return (
      node.name !== other?.name ||
      Object.entries(node.attributes).some(([name, value]) => !other.attributes[name]?.equals(value))
    );
  });
  const node = second.nodes[at] ?? second.nodes.at(-1);
  const what = node === undefined ? 'what it returns' : node.op === 'Const' ? 'a constant' : `op ${node.op}`;
  return refuse(
    `A compiled function does something else each time it runs; the first difference is ${what}.`,
    'Numbers that change (rates, counters, noise, the time) would be the same at every call: pass them as inputs.',
    node?.trace,
  );
}

/**
 * @param compute called twice, on tensors without values
 * @throws EpsilonflowError COMPILE_REFUSED
 */
export function captureProgram<O extends TensorTree>(
  compute: (inputs: readonly Tensor[]) => O,
  inputs: readonly TensorSpec[],
): Program<O> {
  const form: { outputs?: O } = {};
  const trace = (given: readonly Tensor[]) => {
    form.outputs = compute(given);
    return leavesOf(form.outputs);
  };
  const recording = record(inputs, trace);
  const graph = graphBytes(recording);
  const again = record(inputs, trace);
  if (!graphBytes(again).equals(graph)) refuseDifference(recording, again);
  setCardFlags();
  const id = loadGraph(graph);
  const infos = inputs.map(({ dtype }, index) => ({
    name: `input${index}:0`,
    tfDtype: `DT_${dtype.toUpperCase()}`,
  }));
  const outputNames = recording.outputs.map((_, index) => `call:${index}`);
  const outputs = form.outputs as O;
  return {
    inputs,
    run: (given) => rebuild(outputs, nativeBackend().runSavedModel(id, given, infos, outputNames)),
    dispose: () => nativeBackend().binding.deleteSavedModel(id),
  };
}
