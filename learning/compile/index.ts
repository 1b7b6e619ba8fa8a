/**
 * @file Captured functions: a pure function of tensors, recorded once and run through XLA in one call.
 *
 * tfjs runs op by op, with a call from JavaScript and an allocation for each; a captured training step is several times
 * faster. What is captured must be pure: random numbers, learning rates, step counters, masks and weights are inputs; new
 * state is returned. Whatever would become a hidden constant is refused. docs/compile.md is the manual.
 */

import { EpsilonflowError } from '../../schemas/errors.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import type { TensorSpec } from './op-shapes.ts';
import { captureProgram, type Program } from './program.ts';
import { specOf } from './recorder.ts';
import { leavesOf, rebuild, type TensorTree } from './tensor-tree.ts';

export { disposeTree, type TensorTree } from './tensor-tree.ts';

export interface CompileOptions {
  /** Most programs kept, one for each set of input shapes and types; the least recently used is freed. Default 8. */
  programs?: number;
  /** `eager`: a function that can't be captured runs op by op instead. Default: it is refused. */
  fallback?: 'eager';
  /** Most calls that `all` runs side by side. Default 1. */
  atOnce?: number;
}

export interface CompiledFunction<I extends TensorTree, O extends TensorTree> {
  /**
   * Runs the program for the shapes and types of `inputs`, capturing it first where they are new. Inputs must have the
   * names of the first ones; the caller owns inputs and outputs.
   *
   * @throws EpsilonflowError COMPILED_INPUT_INVALID when an input is missing or surplus.
   * @throws EpsilonflowError COMPILE_REFUSED as `compile`.
   */
  (inputs: I): O;
  /**
   * Several calls with inputs of the same shapes and types, `atOnce` of them side by side: the outputs are those of
   * single calls, bit for bit. What calls share, weights for instance, may be the same tensors.
   */
  all(calls: readonly I[]): O[];
  /** Frees all programs. The function must not be called again. */
  dispose(): void;
  /** Programs that are kept at present. */
  readonly programs: number;
}

const invalid = (message: string): never => {
  throw new EpsilonflowError('COMPILED_INPUT_INVALID', message);
};

function distinct(paths: readonly string[]): readonly string[] {
  const twice = paths.find((path, index) => paths.indexOf(path) !== index);
  return twice === undefined ? paths : invalid(`Two inputs have the name ${twice}.`);
}

const fits = (tensor: Tensor, { dtype, shape }: TensorSpec): boolean =>
  tensor.dtype === dtype && tensor.rank === shape.length && shape.every((size, axis) => tensor.shape[axis] === size);

const keyOf = (specs: readonly TensorSpec[]): string =>
  specs.map(({ dtype, shape }) => `${dtype}[${shape.join()}]`).join(' ');

/** Op by op. An input that is handed through as an output is cloned, since the caller owns both. */
function runEagerly<I extends TensorTree, O extends TensorTree>(compute: (inputs: I) => O, inputs: I): O {
  const given = new Set(leavesOf(inputs).map(({ tensor }) => tensor));
  return tf.tidy(() => {
    const outputs = compute(inputs);
    const own = leavesOf(outputs).map(({ tensor }) => (given.has(tensor) ? tf.clone(tensor) : tensor));
    return rebuild(outputs, own) as never;
  });
}

const isRefusal = (error: unknown): boolean => error instanceof EpsilonflowError && error.code === 'COMPILE_REFUSED';

/**
 * Turns a pure function of tensors into one that runs as a compiled program. For inputs of other shapes or types another
 * program is made. Capturing calls `compute` twice on tensors without values; XLA makes the machine code at a program's
 * first call, which takes seconds.
 *
 * @param example inputs to capture a program for at once, so that faults show early; their values are not read
 * @throws EpsilonflowError COMPILE_REFUSED naming op and place, when `compute` isn't pure or uses an op that can't be
 *   encoded.
 */
export function compile<I extends TensorTree, O extends TensorTree>(
  compute: (inputs: I) => O,
  example?: I,
  { programs: limit = 8, fallback, atOnce = 1 }: CompileOptions = {},
): CompiledFunction<I, O> {
  /** By shapes and types, the most recently used last; null where the function runs op by op. */
  const programs = new Map<string, Program<O> | null>();
  /** That of the last call. */
  let recent: Program<O> | null = null;
  /** Of the first inputs. */
  let paths: readonly string[] | undefined;
  let disposed = false;

  /** Leaves in the order of the first inputs. */
  const ordered = (inputs: I): Tensor[] => {
    const given = leavesOf(inputs);
    paths ??= distinct(given.map(({ path }) => path));
    if (given.length !== paths.length) invalid(`${given.length} input tensors are given, ${paths.length} expected.`);
    if (given.every(({ path }, index) => path === paths?.[index])) return given.map(({ tensor }) => tensor);
    const byPath = new Map(given.map(({ path, tensor }) => [path, tensor]));
    return paths.map((path) => byPath.get(path) ?? invalid(`Input ${path} is missing.`));
  };

  const capture = (inputs: I, tensors: readonly Tensor[]): Program<O> | null => {
    // Leaves of `inputs` may stand in another order than the program's, and one tensor under several names.
    const byPath = new Map(paths?.map((path, place) => [path, place]));
    const places = leavesOf(inputs).map(({ path }) => byPath.get(path) as number);
    try {
      return captureProgram(
        (standIns) =>
          compute(
            rebuild(
              inputs,
              places.map((place) => standIns[place] as Tensor),
            ),
          ),
        tensors.map(specOf),
        atOnce,
      );
    } catch (error) {
      if (fallback === 'eager' && isRefusal(error)) return null;
      throw error;
    }
  };

  const programFor = (inputs: I, tensors: readonly Tensor[]): Program<O> | null => {
    const key = keyOf(tensors.map(specOf));
    const program = programs.has(key) ? (programs.get(key) as Program<O> | null) : capture(inputs, tensors);
    programs.delete(key);
    programs.set(key, program);
    if (programs.size > limit) {
      const [oldest] = programs.keys() as unknown as [string];
      programs.get(oldest)?.dispose();
      programs.delete(oldest);
    }
    return program;
  };

  const select = (inputs: I, tensors: readonly Tensor[]): Program<O> | null => {
    const same = recent?.inputs.every((spec, index) => fits(tensors[index] as Tensor, spec)) ?? false;
    if (!same) recent = programFor(inputs, tensors);
    return recent;
  };

  const all = (calls: readonly I[]): O[] => {
    if (disposed) invalid('The compiled function was disposed.');
    const [first] = calls;
    if (first === undefined) return [];
    const tensors = calls.map(ordered);
    const program = select(first, tensors[0]!);
    if (program === null) return calls.map((inputs) => runEagerly(compute, inputs));
    const isFitting = tensors.every((each) => program.inputs.every((spec, index) => fits(each[index] as Tensor, spec)));
    if (!isFitting) invalid('Calls side by side take inputs of the same shapes and types.');
    return program.run(tensors);
  };
  const call = (inputs: I): O => all([inputs])[0] as O;

  if (example) recent = programFor(example, ordered(example));
  const dispose = (): void => {
    disposed = true;
    for (const program of programs.values()) program?.dispose();
    programs.clear();
  };
  return Object.defineProperty(Object.assign(call, { all, dispose }), 'programs', {
    get: () => programs.size,
  }) as CompiledFunction<I, O>;
}
