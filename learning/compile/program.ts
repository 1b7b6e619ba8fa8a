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

interface Capture<O extends TensorTree> {
  graph: Buffer;
  /** Of the tensors that a call gives; its own are stand-ins. */
  form: O;
  outputs: number;
}

/** Outputs of a traced run. An asynchronous function would go on after it, unseen. */
function settled<O extends TensorTree>(outputs: O | Promise<unknown>): O {
  if (!(outputs instanceof Promise)) return outputs;
  outputs.catch(() => {});
  return refuse('A compiled function returns a promise.', 'Return tensors; await what it needs outside.');
}

/** @param compute called twice, on tensors without values */
function capture<O extends TensorTree>(
  compute: (inputs: readonly Tensor[]) => O,
  inputs: readonly TensorSpec[],
  atOnce: number,
): Capture<O> {
  let form: O | undefined;
  const trace = (given: readonly Tensor[]) => {
    form = settled(compute(given));
    return leavesOf(form);
  };
  const recording = record(inputs, trace);
  const graph = graphBytes(recording, atOnce);
  const again = record(inputs, trace);
  if (!graphBytes(again, atOnce).equals(graph)) refuseDifference(recording, again);
  return { graph, form: form as O, outputs: recording.outputs.length };
}

/** Names of the graph's inputs and outputs in a run of so many calls. */
function placesOf(copies: number, inputs: readonly TensorSpec[], outputs: number) {
  const each = Array.from({ length: copies }, (_, copy) => copy);
  return {
    infos: each.flatMap((copy) =>
      inputs.map(({ dtype }, index) => ({
        name: `${inputName(copy, index)}:0`,
        tfDtype: `DT_${dtype.toUpperCase()}`,
      })),
    ),
    outputNames: each.flatMap((copy) => Array.from({ length: outputs }, (_, index) => outputName(copy, index))),
  };
}

/** What was recorded is gone once the graph is loaded: a program keeps nothing that grows with its ops. */
function load<O extends TensorTree>(
  { graph, form, outputs }: Capture<O>,
  inputs: readonly TensorSpec[],
  atOnce: number,
): Program<O> {
  setCardFlags();
  const id = loadGraph(graph);
  /** TensorFlow runs as much of the graph as is asked for. */
  const runTogether = (calls: readonly (readonly Tensor[])[]): O[] => {
    const { infos, outputNames } = placesOf(calls.length, inputs, outputs);
    const tensors = nativeBackend().runSavedModel(id, calls.flat(), infos, outputNames);
    return calls.map((_, copy) => rebuild(form, tensors.slice(copy * outputs, (copy + 1) * outputs)));
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

/**
 * @param compute called twice, on tensors without values
 * @param atOnce most calls in one run of the graph
 * @throws EpsilonflowError COMPILE_REFUSED
 */
export const captureProgram = <O extends TensorTree>(
  compute: (inputs: readonly Tensor[]) => O,
  inputs: readonly TensorSpec[],
  atOnce: number,
): Program<O> => load(capture(compute, inputs, atOnce), inputs, atOnce);
