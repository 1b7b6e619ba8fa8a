import { execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compile } from '../../learning/compile/index.ts';
import { tf, type Tensor } from '../../learning/tensorflow.ts';

const values = (tensor: Tensor): number[] => Array.from(tensor.dataSync());

describe('a captured function that is not pure is refused', () => {
  const x = tf.ones([20]) as Tensor;

  it('when it draws noise, seeded or not', () => {
    expect(() => compile(({ x }) => x.add(tf.randomNormal([20])) as Tensor, { x })).toThrow(/random numbers/);
    expect(() => compile(({ x }) => x.add(tf.randomNormal([20], 0, 1, 'float32', 7)) as Tensor, { x })).toThrow(
      /random numbers \(tf\.randomNormal\)/,
    );
    expect(() => compile(({ x }) => tf.multinomial(x as never, 3, 1) as unknown as Tensor, { x })).toThrow(
      /Multinomial is random/,
    );
    expect(() => compile(({ x }) => x.mul(Math.random()) as Tensor, { x })).toThrow(/random numbers/);
  });

  it.each<[string, (x: Tensor) => Tensor]>([
    ['randomUniform', (x) => x.add(tf.randomUniform([20]))],
    ['truncatedNormal', (x) => x.add(tf.truncatedNormal([20]))],
    ['a random scalar', (x) => x.mul(tf.randomNormal([]))],
    ['a seeded scalar', (x) => x.mul(tf.randomNormal([], 0, 1, 'float32', 7))],
    ['a seeded matrix of one', (x) => x.add(tf.randomUniform([1, 1], 0, 1, 'float32', 7).flatten())],
    ['a seeded whole number', (x) => x.add(tf.randomUniformInt([1], 0, 9, 7))],
    ['a seeded gamma', (x) => x.mul(tf.randomGamma([1], 2, 1, 'float32', 7))],
    ['a seeded standard normal', (x) => x.mul(tf.randomStandardNormal([1], 'float32', 7))],
    ['a seeded truncated normal', (x) => x.mul(tf.truncatedNormal([1], 0, 1, 'float32', 7))],
    ['a generator of the function', (x) => x.mul(tf.rand([1], () => 0.5))],
    ['seeded dropout', (x) => tf.dropout(x.slice([0], [1]), 0.5, undefined, 7)],
    ['dropout', (x) => tf.dropout(x, 0.5)],
    ['numbers of a generator', (x) => x.add(tf.tensor1d(Array.from({ length: 20 }, () => randomInt(1000))))],
    ['one number of a generator', (x) => x.mul(randomInt(2 ** 40))],
    ['a random slice', (x) => x.slice([0], [1]).pad([[randomInt(2 ** 20), 0]])],
  ])('when noise comes from %s', (_, noisy) => {
    expect(() => compile(({ x }) => noisy(x), { x })).toThrow(/ At test\/learning\/compile-refusals\.test\.ts:\d+\.$/);
  });

  it('when a number differs from run to run, naming the place', () => {
    let step = 0;
    expect(() => compile(({ x }) => x.mul(1 / ++step) as Tensor, { x })).toThrow(
      /something else each time it runs; the first difference is a constant\. At test\/learning\/compile-refusals\.test\.ts/,
    );
  });

  it('when it assigns a variable', () => {
    const state = tf.variable(tf.zeros([20]));
    expect(() =>
      compile(
        ({ x }) => {
          state.assign(x as never);
          return x;
        },
        { x },
      ),
    ).toThrow(/assigns a variable/);
    expect(values(state)).toEqual(values(tf.zeros([20])));
    state.dispose();
  });

  it('when it bakes in data made while compiling', () => {
    const mask = () => tf.tensor1d(Array.from({ length: 20 }, (_, index) => index % 2));
    expect(() => compile(({ x }) => x.mul(mask()) as Tensor, { x })).toThrow(/Mul uses a tensor of shape \[20\]/);
    expect(() => compile(() => mask() as Tensor, { x })).toThrow(/Output value uses/);
  });

  it('when it uses a tensor that is not an input', () => {
    const outside = tf.scalar(3);
    expect(() => compile(({ x }) => x.mul(outside) as Tensor, { x })).toThrow(
      /Op Mul uses a tensor of shape \[\] that is not an input/,
    );
  });

  it('when it reads values back', () => {
    expect(() => compile(({ x }) => x.mul(x.dataSync()[0] as number) as Tensor, { x })).toThrow(
      /reads the value of a tensor/,
    );
    expect(() => compile(({ x }) => x.mul(x.sum().arraySync() as number) as Tensor, { x })).toThrow(/reads the value/);
  });

  it('when it is asynchronous', async () => {
    const later = async ({ x }: { x: Tensor }): Promise<Tensor> => {
      await x.data();
      return x;
    };
    expect(() => compile(later as never, { x } as never)).toThrow(/returns a promise/);
    const nested = ({ x }: { x: Tensor }) => ({ x, soon: Promise.resolve(x) });
    expect(() => compile(nested as never, { x } as never)).toThrow(/soon is not a tensor/);
    // What the function does afterwards is no fault of the process.
    await new Promise((resolve) => setImmediate(resolve));
  });

  it('naming the line under tsx too, which reads source maps', { timeout: 60_000 }, () => {
    const folder = mkdtempSync(join(import.meta.dirname, 'refused-'));
    try {
      const file = join(folder, 'refused.ts');
      const library = new URL('../../learning/', import.meta.url);
      const lines = [
        `import { compile } from '${library.href}compile/index.ts';`,
        `import { tf, type Tensor } from '${library.href}tensorflow.ts';`,
        'const x = tf.ones([20]) as Tensor;',
        'const mask = () => tf.tensor1d(Array.from({ length: 20 }, (_, index) => index));',
        'const loss = (w: Tensor): Tensor => w.mul(mask()).sum() as Tensor;',
        'const slope = ({ x }: { x: Tensor }) => tf.grad(loss as never)(x as never) as never;',
        'try { compile(slope, { x }); } catch (error) { console.log(String(error)); }',
      ];
      writeFileSync(file, lines.join('\n'));
      const said = execFileSync(process.execPath, ['--import', 'tsx', file], { encoding: 'utf8', stdio: 'pipe' });
      expect(said).toMatch(/Mul uses a tensor of shape \[20\].* At test\/learning\/refused-\w+\/refused\.ts:4\.\n$/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('when an op is unknown to the encoder, and the backend works on afterwards', () => {
    expect(() => compile(({ x }) => tf.spectral.rfft(x) as unknown as Tensor, { x })).toThrow(
      /Op \w+ cannot be encoded/,
    );
    expect(values(x.add(1).slice([0], [2]))).toEqual([2, 2]);
    expect(Math.random()).toBeLessThan(1);
  });

  it('when it calls another compiled function', () => {
    const inner = compile(({ x }) => x.mul(2) as Tensor, { x });
    expect(() => compile(({ x }) => inner({ x }), { x })).toThrow(/calls another compiled function/);
  });
});
