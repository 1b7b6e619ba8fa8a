/** @file One captured program: a function for one set of input shapes and types, loaded into TensorFlow. */

import { setCardFlags, type Tensor } from '../tensorflow.ts';
import { nativeBackend } from './backend.ts';
import type { TensorSpec } from './op-shapes.ts';
import { record, refuse, type Recording } from './recorder.ts';
import { graphBytes, inputName, loadGraph, outputName } from './saved-model.ts';
import { leavesOf, rebuild, type TensorTree } from './tensor-tree.ts';

export interface Program<O extends TensorTree> {
  readonly inputs: readonly TensorSpec[];
  /** Calls side by side, `atOnce` at a time. @param calls inputs of the program's shapes and types, in its order */
  run(calls: readonly (readonly Tensor[])[]): O[];
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
 * @param atOnce most calls in one run of the graph
 * @throws EpsilonflowError COMPILE_REFUSED
 */
export function captureProgram<O extends TensorTree>(
  compute: (inputs: readonly Tensor[]) => O,
  inputs: readonly TensorSpec[],
  atOnce: number,
): Program<O> {
  const form: { outputs?: O } = {};
  const trace = (given: readonly Tensor[]) => {
    form.outputs = compute(given);
    return leavesOf(form.outputs);
  };
  const recording = record(inputs, trace);
  const graph = graphBytes(recording, atOnce);
  const again = record(inputs, trace);
  if (!graphBytes(again, atOnce).equals(graph)) refuseDifference(recording, again);
  setCardFlags();
  const id = loadGraph(graph);
  const outputs = form.outputs as O;
  const places = (copies: number) => {
    const each = Array.from({ length: copies }, (_, copy) => copy);
    return {
      infos: each.flatMap((copy) =>
        inputs.map(({ dtype }, index) => ({
          name: `${inputName(copy, index)}:0`,
          tfDtype: `DT_${dtype.toUpperCase()}`,
        })),
      ),
      outputNames: each.flatMap((copy) => recording.outputs.map((_, index) => outputName(copy, index))),
    };
  };
  /** TensorFlow runs as much of the graph as is asked for. */
  const runTogether = (calls: readonly (readonly Tensor[])[]): O[] => {
    const { infos, outputNames } = places(calls.length);
    const tensors = nativeBackend().runSavedModel(id, calls.flat(), infos, outputNames);
    const width = recording.outputs.length;
    return calls.map((_, copy) => rebuild(outputs, tensors.slice(copy * width, (copy + 1) * width)));
  };
  return {
    inputs,
    run(calls) {
      const results: O[] = [];
      for (let from = 0; from < calls.length; from += atOnce) {
        results.push(...runTogether(calls.slice(from, from + atOnce)));
      }
      return results;
    },
    dispose: () => nativeBackend().binding.deleteSavedModel(id),
  };
}
