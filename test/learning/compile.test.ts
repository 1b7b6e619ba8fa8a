import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { compile, type TensorTree } from '../../learning/compile/index.ts';
import { tf, type Tensor } from '../../learning/tensorflow.ts';

const values = (tensor: Tensor): number[] => Array.from(tensor.dataSync());

function expectClose(actual: Tensor, expected: Tensor, tolerance = 1e-5): void {
  expect(actual.shape).toEqual(expected.shape);
  const [a, b] = [values(actual), values(expected)];
  const scale = Math.max(1, ...b.map(Math.abs));
  a.forEach((value, index) => expect(Math.abs(value - (b[index] as number))).toBeLessThanOrEqual(tolerance * scale));
}

describe('compile', () => {
  it('equals eager running, forward and gradient', () => {
    const network = ({ x, w, ids }: { x: Tensor; w: Tensor; ids: Tensor }) => {
      const loss = (weights: Tensor) => {
        const hidden = tf.softmax(tf.matMul(x.reshape([6, 4]), weights, false, true).sigmoid());
        const picked = tf
          .gather(hidden, ids)
          .concat(hidden.slice([0, 0], [2, 5]), 0)
          .transpose([1, 0]);
        return picked.square().sum(-1).add(1).rsqrt().mean().add(hidden.max(-1).log().sum()) as Tensor;
      };
      const { value, grads } = tf.valueAndGrads((weights) => loss(weights as Tensor) as never)([w]);
      return { value: value as Tensor, gradient: grads[0] as Tensor };
    };
    const inputs = {
      x: tf.randomNormal([2, 3, 4], 0, 1, 'float32', 1) as Tensor,
      w: tf.randomNormal([5, 4], 0, 1, 'float32', 2) as Tensor,
      ids: tf.tensor1d([5, 0, 5], 'int32') as Tensor,
    };
    const eager = network(inputs);
    const compiled = compile(network, inputs);
    const outputs = compiled(inputs);
    expectClose(outputs.value, eager.value);
    expectClose(outputs.gradient, eager.gradient);
    const other = { ...inputs, w: inputs.w.mul(0.5) as Tensor };
    expectClose(compiled(other).gradient, network(other).gradient);
    compiled.dispose();
    expect(() => compiled(inputs)).toThrow(/disposed/);
  });

  it('repeats the same bits', () => {
    const x = tf.randomNormal([64, 64], 0, 1, 'float32', 3) as Tensor;
    const compiled = compile(({ x }) => tf.matMul(tf.softmax(x), x) as Tensor, { x });
    expect(values(compiled({ x }))).toEqual(values(compiled({ x })));
    compiled.dispose();
  });

  it('runs calls side by side with the bits of single ones, however many', () => {
    const mix = ({ x, shared }: { x: Tensor; shared: { w: Tensor } }) => {
      const product = tf.matMul(tf.softmax(x), shared.w) as Tensor;
      return { product, sum: product.sum(0) as Tensor };
    };
    const shared = { w: tf.randomNormal([64, 48], 0, 1, 'float32', 4) as Tensor };
    const calls = [5, 6, 7, 8, 9].map((seed) => ({ x: tf.randomNormal([64, 64], 0, 1, 'float32', seed), shared }));
    const compiled = compile(mix, undefined, { atOnce: 2 });
    const single = calls.map((inputs) => compiled(inputs));
    for (const count of [5, 2, 1]) {
      const together = compiled.all(calls.slice(0, count));
      expect(together).toHaveLength(count);
      together.forEach(({ product, sum }, index) => {
        expect(values(product)).toEqual(values(single[index]!.product));
        expect(values(sum)).toEqual(values(single[index]!.sum));
      });
    }
    expect(compiled.all([])).toEqual([]);
    expect(compiled.programs).toBe(1);
    const wider = { x: tf.ones([32, 64]), shared };
    expect(() => compiled.all([calls[0]!, wider])).toThrow(/same shapes/);
    compiled.dispose();
  });

  it('leaves no files and no tensors behind', () => {
    const files = () => readdirSync(tmpdir()).filter((name) => name.startsWith('epsilonflow-graph-')).length;
    const x = tf.ones([4]) as Tensor;
    const before = { files: files(), tensors: tf.memory().numTensors };
    const compiled = compile(({ x }) => x.mul(2).add(1) as Tensor, { x });
    for (let call = 0; call < 100; call++) compiled({ x }).dispose();
    compiled.dispose();
    expect({ files: files(), tensors: tf.memory().numTensors }).toEqual(before);
  });

  it('returns an input that is handed through', () => {
    const x = tf.tensor1d([1, 2]) as Tensor;
    const compiled = compile(({ x }) => ({ same: x, twice: x.mul(2) as Tensor }), { x });
    const { same, twice } = compiled({ x });
    expect([values(same), values(twice)]).toEqual([
      [1, 2],
      [2, 4],
    ]);
    expect(values(x)).toEqual([1, 2]);
  });

  it('reads inputs by name, whatever their order, and rejects other names and shapes that do not fit', () => {
    const a = tf.tensor1d([5, 7]) as Tensor;
    const b = tf.tensor1d([1, 2]) as Tensor;
    const compiled = compile(({ a, b }) => a.sub(b) as Tensor, { a, b });
    expect(values(compiled({ b, a }))).toEqual([4, 5]);
    expect(() => compiled({ a, b: tf.ones([3]) as Tensor })).toThrow(
      /Op Sub cannot be encoded: shapes \[2\] and \[3\]/,
    );
    expect(() => compiled({ a } as never)).toThrow(/1 input tensors are given, 2 expected/);
    expect(() => compiled({ a, c: b } as never)).toThrow(/Input b is missing/);
    const twins = compile((inputs: Record<string, TensorTree>) => inputs['a.b'] as Tensor);
    expect(() => twins({ 'a.b': a, a: { b } })).toThrow(/Two inputs have the name a\.b/);
  });

  it('tells inputs apart whose first value is one tensor', () => {
    const x = tf.tensor1d([5, 7]) as Tensor;
    const y = tf.tensor1d([1, 2]) as Tensor;
    for (const example of [undefined, { a: x, b: x }]) {
      const compiled = compile(({ a, b }: { a: Tensor; b: Tensor }) => a.sub(b) as Tensor, example);
      expect(values(compiled({ a: x, b: x }))).toEqual([0, 0]);
      expect(values(compiled({ a: x, b: y }))).toEqual([4, 5]);
      expect(values(compiled({ b: x, a: y }))).toEqual([-4, -5]);
      compiled.dispose();
    }
  });
});

describe('programs', () => {
  const double = ({ x }: { x: Tensor }): Tensor => x.add(x);

  it('are made for each set of shapes and types, and the least recently used is freed', () => {
    let runs = 0;
    const compiled = compile(
      ({ x }: { x: Tensor }) => {
        runs++;
        return double({ x });
      },
      undefined,
      { programs: 2 },
    );
    const call = (x: Tensor): number[] => values(compiled({ x }));
    expect(call(tf.tensor1d([1, 2]))).toEqual([2, 4]);
    expect(call(tf.tensor1d([1, 2, 3]))).toEqual([2, 4, 6]);
    expect([runs, compiled.programs]).toEqual([4, 2]);
    expect(call(tf.tensor1d([3, 4]))).toEqual([6, 8]);
    expect(runs).toBe(4);
    const whole = compiled({ x: tf.tensor1d([5], 'int32') });
    expect([whole.dtype, ...values(whole)]).toEqual(['int32', 10]);
    expect([runs, compiled.programs]).toEqual([6, 2]);
    // The one of three elements had to go.
    call(tf.tensor1d([1, 2]));
    expect(runs).toBe(6);
    call(tf.tensor1d([1, 2, 3]));
    expect(runs).toBe(8);
    compiled.dispose();
    expect(compiled.programs).toBe(0);
  });

  it('hold no memory of capturing, however large its intermediates', () => {
    const x = tf.ones([4]) as Tensor;
    const before = tf.memory();
    const resident = process.memoryUsage().rss;
    // 4 GB if it were computed.
    const compiled = compile(({ x }) => tf.tile(x.reshape([1, 4]), [2 ** 28, 1]).sum() as Tensor, { x });
    expect(process.memoryUsage().rss - resident).toBeLessThan(200e6);
    expect(tf.memory()).toMatchObject({ numTensors: before.numTensors, numBytes: before.numBytes });
    compiled.dispose();
  });

  it('do not leak over 10,000 calls', () => {
    const compiled = compile(({ x }: { x: Tensor }) => tf.softmax(x.square().add(1)) as Tensor);
    const x = tf.ones([64, 64]) as Tensor;
    const calls = (count: number): void => {
      for (let call = 0; call < count; call++) compiled({ x }).dispose();
    };
    calls(1_000);
    const before = { tensors: tf.memory().numTensors, resident: process.memoryUsage().rss };
    calls(9_000);
    expect(tf.memory().numTensors).toBe(before.tensors);
    // A result kept at each call would be 147 MB.
    expect(process.memoryUsage().rss - before.resident).toBeLessThan(60e6);
    compiled.dispose();
  });

  it('keep nothing that grows with their ops', () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const heap = (): number => {
      collect();
      return process.memoryUsage().heapUsed;
    };
    const chain = (ops: number) =>
      compile(({ x }) => Array.from({ length: ops }).reduce((sum: Tensor) => sum.add(x), x) as Tensor, {
        x: tf.ones([4]) as Tensor,
      });
    chain(10).dispose();
    const before = heap();
    const compiled = chain(5_000);
    // 200 bytes an op; the place of one alone, a hundred frames of a stack, takes more.
    expect(heap() - before).toBeLessThan(1e6);
    compiled.dispose();
  });

  it('run op by op where they cannot be captured, if that is asked for, and are tried once only', () => {
    let runs = 0;
    const spectrum = ({ x }: { x: Tensor }): { spectrum: Tensor; x: Tensor } => {
      runs++;
      return { spectrum: tf.abs(tf.spectral.rfft(x)), x };
    };
    const compiled = compile(spectrum, undefined, { fallback: 'eager' });
    const x = tf.tensor1d([1, 1, 1, 1]) as Tensor;
    const result = compiled({ x });
    expect(values(result.spectrum)).toEqual([4, 0, 0]);
    tf.dispose(result.x);
    expect(values(x)).toEqual([1, 1, 1, 1]);
    for (let call = 1; call < 10; call++) compiled({ x });
    // Another length in between.
    compiled({ x: tf.ones([8]) as Tensor });
    compiled({ x });
    expect(runs).toBe(12 + 2);
  });

  /** Bits of a program in a process of its own. */
  const bitsIn = (environment: Record<string, string>): string =>
    execFileSync(process.execPath, ['--import', 'tsx', join(import.meta.dirname, 'compiled-bits-process.ts')], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, ...environment },
    });

  it('give the same bits on one thread and on two', { timeout: 120_000 }, () => {
    const run = (threads: string): string =>
      bitsIn({ TF_NUM_INTRAOP_THREADS: threads, TF_NUM_INTEROP_THREADS: threads, OMP_NUM_THREADS: threads });
    const bits = run('1');
    expect(bits).toMatch(/^[0-9a-f]{64}\n$/);
    expect(run('2')).toBe(bits);
  });

  it('are kept for other processes, with the same bits', { timeout: 120_000 }, () => {
    const folder = mkdtempSync(join(tmpdir(), 'xla cache '));
    const programs = (): [string, number][] =>
      readdirSync(folder).map((name) => [name, statSync(join(folder, name)).mtimeMs]);
    const bits = bitsIn({ EPSILONFLOW_XLA_CACHE: folder });
    const first = programs();
    expect(first.length).toBeGreaterThan(0);
    expect(bitsIn({ EPSILONFLOW_XLA_CACHE: folder })).toBe(bits);
    // What was found was not compiled and written again.
    expect(programs()).toEqual(first);
    rmSync(folder, { recursive: true });
  });
});
