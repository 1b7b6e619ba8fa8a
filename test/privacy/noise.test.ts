import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { destroyNoiseKey, ensureNoiseKey, readNoiseKey } from '../../privacy/noise-key.ts';
import { seededStream, stepStreams } from '../../privacy/noise.ts';
import { poissonBatch } from '../../privacy/poisson.ts';
import { sharedNoiseKey, sharedSecret } from '../../privacy/shared-noise-key.ts';
import { distanceFromNormal, momentOf } from './normal-distribution.ts';

const key = Buffer.alloc(32, 7);
const state = Buffer.alloc(32, 1);

describe('streams of a DP step', () => {
  it('repeat bit for bit for the same key, node, step and state', () => {
    const first = stepStreams(key, 'node', 3, state);
    const second = stepStreams(key, 'node', 3, state);
    expect(first.noise.bytes(40_000)).toEqual(second.noise.bytes(40_000));
    expect(first.batch.bytes(64)).toEqual(second.batch.bytes(64));
  });

  it('differ when any of key, node, step, state or purpose differs', () => {
    const streams = [
      stepStreams(key, 'node', 3, state),
      stepStreams(Buffer.alloc(32, 8), 'node', 3, state),
      stepStreams(key, 'node2', 3, state),
      stepStreams(key, 'node', 4, state),
      stepStreams(key, 'node', 3, Buffer.alloc(32, 2)),
      // The same characters split in another place must not collide.
      stepStreams(key, 'node3', 3, state),
      stepStreams(key, 'nod', 3, state),
    ].flatMap(({ batch, noise }) => [batch.bytes(32).toString('hex'), noise.bytes(32).toString('hex')]);
    expect(new Set(streams).size).toBe(streams.length);
  });

  it('keep noise where it is however much of the batch stream was read', () => {
    const untouched = stepStreams(key, 'node', 3, state);
    const drained = stepStreams(key, 'node', 3, state);
    drained.batch.bytes(100_001);
    expect(drained.noise.bytes(64)).toEqual(untouched.noise.bytes(64));
  });

  it('do not depend on the sizes of the reads', () => {
    const whole = stepStreams(key, 'node', 0, state).noise.bytes(50_000);
    const parts = stepStreams(key, 'node', 0, state).noise;
    const pieces = [1, 7, 16_384, 30_000, 3_608].map((count) => parts.bytes(count));
    expect(Buffer.concat(pieces)).toEqual(whole);
  });

  it('refuse a short key and a step that is no natural number', () => {
    expect(() => stepStreams(Buffer.alloc(16), 'node', 0, state)).toThrow(RangeError);
    expect(() => stepStreams(key, 'node', -1, state)).toThrow(RangeError);
    expect(() => stepStreams(key, 'node', 0.5, state)).toThrow(RangeError);
  });
});

describe('seeded streams', () => {
  it('depend on seed and purpose only', () => {
    expect(seededStream(1, 'a').bytes(16)).toEqual(seededStream(1, 'a').bytes(16));
    expect(seededStream(1, 'a').bytes(16)).not.toEqual(seededStream(2, 'a').bytes(16));
    expect(seededStream(1, 'a').bytes(16)).not.toEqual(seededStream(1, 'b').bytes(16));
  });
});

describe('Gaussian noise', () => {
  const n = 200_000;
  const sample = new Float32Array(n);
  stepStreams(key, 'gauss', 0, state).noise.fillGaussian(sample, 1);

  it('has the moments of a standard normal', () => {
    const moment = (power: number): number => momentOf(sample, power);
    // Five standard errors each.
    expect(Math.abs(moment(1))).toBeLessThan(5 * Math.sqrt(1 / n));
    expect(Math.abs(moment(2) - 1)).toBeLessThan(5 * Math.sqrt(2 / n));
    expect(Math.abs(moment(3))).toBeLessThan(5 * Math.sqrt(15 / n));
    expect(Math.abs(moment(4) - 3)).toBeLessThan(5 * Math.sqrt(96 / n));
  });

  it('passes a Kolmogorov-Smirnov test', () => {
    // 1.95 / sqrt(n) is the 0.1 % critical value.
    expect(distanceFromNormal(sample)).toBeLessThan(1.95 / Math.sqrt(n));
  });

  it('is uncorrelated between the two members of a pair and with the next pair', () => {
    for (const lag of [1, 2]) {
      let sum = 0;
      for (let index = lag; index < n; index++) sum += sample[index]! * sample[index - lag]!;
      expect(Math.abs(sum / n)).toBeLessThan(5 / Math.sqrt(n));
    }
  });

  it('scales with the standard deviation and fills odd lengths', () => {
    const one = new Float32Array(7);
    const three = new Float32Array(7);
    stepStreams(key, 'gauss', 1, state).noise.fillGaussian(one, 1);
    stepStreams(key, 'gauss', 1, state).noise.fillGaussian(three, 3);
    for (let index = 0; index < 7; index++) expect(three[index]).toBeCloseTo(3 * one[index]!, 4);
    expect(one[6]).not.toBe(0);
  });
});

describe('Poisson batches', () => {
  it('draw each record independently with the given probability', () => {
    const records = 500;
    const q = 0.1;
    const draws = 2_000;
    const hits = new Float64Array(records);
    const sizes: number[] = [];
    for (let step = 0; step < draws; step++) {
      const batch = poissonBatch(stepStreams(key, 'poisson', step, state).batch, records, q);
      sizes.push(batch.length);
      for (const record of batch) hits[record]!++;
    }
    const mean = sizes.reduce((sum, size) => sum + size, 0) / draws;
    const variance = sizes.reduce((sum, size) => sum + (size - mean) ** 2, 0) / draws;
    const expected = records * q * (1 - q);
    // Binomial size: mean nq, variance nq(1-q); a shuffled batch of fixed size would have variance 0.
    expect(Math.abs(mean - records * q)).toBeLessThan(5 * Math.sqrt(expected / draws));
    expect(Math.abs(variance - expected)).toBeLessThan(5 * expected * Math.sqrt(2 / draws));
    const chiSquare = hits.reduce((sum, count) => sum + (count - draws * q) ** 2 / (draws * q * (1 - q)), 0);
    expect(Math.abs(chiSquare - records)).toBeLessThan(5 * Math.sqrt(2 * records));
  });

  it('are ascending, all records at 1, none at 0', () => {
    const draw = (q: number): Int32Array => poissonBatch(seededStream(1, 'poisson'), 100, q);
    expect(draw(1)).toEqual(Int32Array.from({ length: 100 }, (_, index) => index));
    expect(draw(0)).toHaveLength(0);
    const some = draw(0.5);
    expect(some).toEqual(Int32Array.from(some).sort());
    expect(() => draw(1.5)).toThrow(RangeError);
    expect(() => draw(Number.NaN)).toThrow(RangeError);
  });

  it('leave the draw of earlier records alone when the data set grows', () => {
    const small = poissonBatch(seededStream(5, 'poisson'), 1_000, 0.3);
    const large = poissonBatch(seededStream(5, 'poisson'), 1_500, 0.3);
    expect(large.filter((record) => record < 1_000)).toEqual(small);
  });
});

describe('noise key files', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'noise-key-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('are made once, secret, and the same for racing processes', async () => {
    const file = join(folder, 'keys', 'node');
    await Promise.all([ensureNoiseKey(file), ensureNoiseKey(file), ensureNoiseKey(file)]);
    const first = await readNoiseKey(file);
    expect(first).toHaveLength(32);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await stat(join(folder, 'keys'))).mode & 0o777).toBe(0o700);
    await ensureNoiseKey(file);
    expect(await readNoiseKey(file)).toEqual(first);
    const other = join(folder, 'keys', 'other');
    await ensureNoiseKey(other);
    expect(await readNoiseKey(other)).not.toEqual(first);
  });

  it('are gone after destruction, which may be repeated', async () => {
    const file = join(folder, 'node');
    await ensureNoiseKey(file);
    await destroyNoiseKey(file);
    await destroyNoiseKey(file);
    await expect(readNoiseKey(file)).rejects.toMatchObject({ code: 'NOISE_KEY_LOST' });
    await expect(readFile(file)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('are alike for all who share a secret, and of one run, node and epoch', async () => {
    const secret = 'ab'.repeat(32);
    const owner = { workflowId: 'trial/1', nodeKey: 'node', keyEpoch: 0 };
    const made = await sharedNoiseKey(secret, owner);
    // Another program's scrypt and HMAC (Python's hashlib and hmac), so that no version of ours makes other keys unseen.
    expect(made.toString('hex')).toBe('3d5a231d3a1f4021abaa2429913a17560fd71bca5e11c6680ca126468a209110');
    expect(await sharedNoiseKey(secret, { ...owner })).toEqual(made);
    const others = [{ workflowId: 'trial/2' }, { nodeKey: 'other' }, { keyEpoch: 1 }];
    const keys = await Promise.all([
      ...others.map((other) => sharedNoiseKey(secret, { ...owner, ...other })),
      sharedNoiseKey('ba'.repeat(32), owner),
    ]);
    expect(new Set([made, ...keys].map((key) => key.toString('hex'))).size).toBe(5);
  });

  it('are refused to a secret that could be guessed', () => {
    vi.stubEnv('EPSILONFLOW_RUN_SECRET', 'short');
    expect(() => sharedSecret()).toThrow(expect.objectContaining({ code: 'ARGUMENT_INVALID' }));
    vi.stubEnv('EPSILONFLOW_RUN_SECRET', 'ab'.repeat(32));
    expect(sharedSecret()).toBe('ab'.repeat(32));
    vi.stubEnv('EPSILONFLOW_RUN_SECRET', '');
    expect(sharedSecret()).toBeNull();
    vi.unstubAllEnvs();
  });

  it('are no known bytes, whatever a crash left behind', async () => {
    const file = join(folder, 'zeros');
    await writeFile(file, Buffer.alloc(32));
    await ensureNoiseKey(file);
    await expect(readNoiseKey(file)).rejects.toMatchObject({ code: 'NOISE_KEY_LOST' });
  });
});
