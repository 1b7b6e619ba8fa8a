/**
 * @file Captured functions: a pure function of tensors, recorded once and run through XLA in one call.
 *
 * tfjs runs op by op, with a call from JavaScript and an allocation for each; a captured training step is several times
 * faster. What is captured has fixed shapes and must be pure: random numbers, learning rates, step counters, masks and
 * weights are inputs; new state is returned. Whatever would become a hidden constant is refused.
 */

import { EpsilonflowError } from '../../schemas/errors.ts';
import { tf, type DataType, type Tensor } from '../tensorflow.ts';
import { nativeBackend } from './backend.ts';
import { record } from './recorder.ts';
import { loadRecording } from './saved-model.ts';
import { leavesOf, rebuild, type TensorTree } from './tensor-tree.ts';

export { disposeTree, type TensorTree } from './tensor-tree.ts';

export interface CompiledFunction<I extends TensorTree, O extends TensorTree> {
  /**
   * Runs the program. Inputs must have the tree, shapes and types of the example; the caller owns inputs and outputs.
   *
   * @throws EpsilonflowError COMPILED_INPUT_INVALID when an input is missing, surplus, or of another shape or type.
   */
  (inputs: I): O;
  /** Frees the program. The function must not be called again. */
  dispose(): void;
  /** Number of recorded ops, constants included. */
  readonly ops: number;
}

const describe = (dtype: string, shape: readonly number[]): string => `${dtype}[${shape.join(', ')}]`;

const invalid = (message: string): never => {
  throw new EpsilonflowError('COMPILED_INPUT_INVALID', message);
};

/**
 * Captures `compute` for the shapes and types of `example`. Runs it once, op by op, to see what it does; the machine
 * code is made at the first call.
 *
 * @throws EpsilonflowError COMPILE_REFUSED naming the op, when `compute` isn't pure or uses an op that can't be encoded.
 */
export function compile<I extends TensorTree, O extends TensorTree>(
  compute: (inputs: I) => O,
  example: I,
): CompiledFunction<I, O> {
  const leaves = leavesOf(example);
  const seen = new Set<object>();
  for (const { path, tensor } of leaves) {
    if (seen.has(tensor.dataId)) invalid(`Example input ${path} is the same tensor as another input.`);
    seen.add(tensor.dataId);
  }
  const form: { outputs?: O } = {};
  const { recording, results } = record(
    leaves.map(({ tensor }) => tensor),
    () =>
      tf.tidy(() => {
        const outputs = compute(example);
        form.outputs = outputs;
        // An input handed through as an output must survive the disposal of the example's results.
        return leavesOf(outputs).map(({ tensor }) => (seen.has(tensor.dataId) ? tf.clone(tensor) : tensor));
      }),
  );
  tf.dispose([...results]);
  const graph = loadRecording(recording);
  const infos = graph.inputNames.map((name, index) => ({
    name,
    tfDtype: `DT_${(recording.inputs[index]?.dtype as DataType).toUpperCase()}`,
  }));
  const paths = leaves.map(({ path }) => path);
  let disposed = false;

  const ordered = (inputs: I): Tensor[] => {
    const given = leavesOf(inputs);
    const byPath = given.every(({ path }, index) => path === paths[index])
      ? null
      : new Map(given.map(({ path, tensor }) => [path, tensor]));
    if (given.length !== paths.length) invalid(`${given.length} input tensors are given, ${paths.length} expected.`);
    return paths.map((path, index) => {
      const tensor = byPath ? byPath.get(path) : given[index]?.tensor;
      const spec = recording.inputs[index];
      if (!tensor || !spec) return invalid(`Input ${path} is missing.`);
      const fits = tensor.dtype === spec.dtype && tensor.shape.join() === spec.shape.join();
      if (!fits) {
        const given = describe(tensor.dtype, tensor.shape);
        invalid(`Input ${path} is ${given}; the function was compiled for ${describe(spec.dtype, spec.shape)}.`);
      }
      return tensor;
    });
  };

  const call = (inputs: I): O => {
    if (disposed) invalid('The compiled function was disposed.');
    const outputs = nativeBackend().runSavedModel(graph.id, ordered(inputs), infos, graph.outputNames);
    return rebuild(form.outputs as O, outputs);
  };
  return Object.assign(call, {
    dispose: () => {
      if (disposed) return;
      disposed = true;
      nativeBackend().binding.deleteSavedModel(graph.id);
    },
    ops: recording.nodes.length,
  });
}
