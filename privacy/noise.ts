/**
 * @file Randomness as a pseudo-random function: the sampling and noise of a DP step, and seeded streams for the rest.
 *
 * Batch and noise of step t are PRF(key, node key, t, digest of incoming weights, optimiser state and how sums are
 * computed). An identical digest repeats bit for bit, so a retried step releases nothing new; any other gets a fresh
 * batch and fresh noise, so two outputs with the same noise can never be subtracted.
 *
 * Derivation: HKDF-SHA256 (RFC 5869) of the node's 32-byte key, with a length-prefixed encoding of purpose and context
 * as `info`, gives a 32-byte AES key; the stream is the AES-256-CTR keystream from counter zero. Distinct contexts give
 * distinct keys, so no counter range is shared.
 *
 * `fillGaussian` is for initialisation: Box-Muller transforms of 53-bit uniforms, rounded to float32. Noise of mechanisms
 * is made by `exact-gaussian.ts` and, in float arithmetic, by `float-gaussian.ts`.
 */

import { createCipheriv, createHash, hkdfSync } from 'node:crypto';

/** Length of a node's noise key, bytes. */
export const noiseKeyBytes = 32;

/** A reproducible stream of random bytes. Reading advances it; two readers of one stream must not share an order. */
export interface KeyedStream {
  /** The next `count` bytes. */
  bytes(count: number): Buffer;
  /** The next 32 bits as a natural number. */
  word(): number;
  /** The next number in [0, 1), a multiple of 2^-53; consumes 8 bytes. */
  uniform(): number;
  /** Fills `out` with independent N(0, standardDeviation^2) samples; consumes 16 bytes a pair. */
  fillGaussian(out: Float32Array, standardDeviation: number): void;
}

/** The two streams of one DP step. They are independent: neither's consumption moves the other. */
export interface StepStreams {
  /** Decides which records are in the batch. */
  batch: KeyedStream;
  /** Supplies the Gaussian noise. */
  noise: KeyedStream;
}

const salt = Buffer.from('epsilonflow/noise/1');
/** Encrypting zeros gives the keystream. */
const zeros = Buffer.alloc(1 << 14);

/** AES-256-CTR keystream of a 32-byte key. */
class CounterModeStream implements KeyedStream {
  private readonly cipher: ReturnType<typeof createCipheriv>;
  private block: Buffer = Buffer.alloc(0);
  /** The same bytes; the supported machines are little-endian. */
  private words: Uint32Array = new Uint32Array(0);
  private position = 0;

  constructor(key: Buffer) {
    this.cipher = createCipheriv('aes-256-ctr', key, Buffer.alloc(16));
  }

  bytes(count: number): Buffer {
    const out = Buffer.alloc(count);
    let filled = 0;
    while (filled < count) {
      if (this.position === this.block.length) this.refill();
      const copied = this.block.copy(out, filled, this.position, this.position + count - filled);
      filled += copied;
      this.position += copied;
    }
    return out;
  }

  word(): number {
    if (this.position === this.block.length) this.refill();
    // Reads of other sizes may have left an odd place.
    if (this.position % 4 !== 0) return this.bytes(4).readUInt32LE(0);
    const value = this.words[this.position / 4]!;
    this.position += 4;
    return value;
  }

  uniform(): number {
    const low = this.word();
    return combine(low, this.word());
  }

  fillGaussian(out: Float32Array, standardDeviation: number): void {
    for (let index = 0; index < out.length; index += 2) {
      // 1 - u lies in (0, 1], which keeps the logarithm finite.
      const radius = standardDeviation * Math.sqrt(-2 * Math.log(1 - this.uniform()));
      const angle = 2 * Math.PI * this.uniform();
      out[index] = radius * Math.cos(angle);
      if (index + 1 < out.length) out[index + 1] = radius * Math.sin(angle);
    }
  }

  private refill(): void {
    this.block = this.cipher.update(zeros);
    this.words = new Uint32Array(this.block.buffer, this.block.byteOffset, this.block.length / 4);
    this.position = 0;
  }
}

/** 53 of 64 random bits as a number in [0, 1). */
const combine = (low: number, high: number): number => ((high >>> 5) * 0x4000000 + (low >>> 6)) / 0x20000000000000;

/** Unambiguous encoding of a list of byte strings: each is preceded by its length. */
function encodeParts(parts: readonly (string | Buffer)[]): Buffer {
  return Buffer.concat(
    parts.flatMap((part) => {
      const body = typeof part === 'string' ? Buffer.from(part, 'utf8') : part;
      const length = Buffer.alloc(4);
      length.writeUInt32BE(body.length);
      return [length, body];
    }),
  );
}

function derive(key: Buffer, parts: readonly (string | Buffer)[]): KeyedStream {
  // HKDF's `info` is limited to 1,024 bytes by Node; hashing the encoding first keeps any context within it.
  const info = createHash('sha256').update(encodeParts(parts)).digest();
  return new CounterModeStream(Buffer.from(hkdfSync('sha256', key, salt, info, 32)));
}

/**
 * Streams of one DP training step.
 *
 * @param key 32 secret bytes that belong to this node alone.
 * @param nodeKey content key of the plan node.
 * @param step number of the step, from 0.
 * @param stateDigest digest of all that the step's sum depends on: incoming weights, optimiser state, computation.
 * @throws RangeError when the key has another length or the step is not a natural number.
 */
export function stepStreams(key: Buffer, nodeKey: string, step: number, stateDigest: Buffer): StepStreams {
  if (key.length !== noiseKeyBytes) throw new RangeError(`a noise key has ${noiseKeyBytes} bytes, not ${key.length}`);
  if (!Number.isSafeInteger(step) || step < 0) throw new RangeError(`a step is a natural number, not ${step}`);
  const context = [nodeKey, String(step), stateDigest];
  return { batch: derive(key, ['batch', ...context]), noise: derive(key, ['noise', ...context]) };
}

/**
 * Randomness that protects nothing: initialisation, label draws, decoding, classifier batches. Reproducible from the
 * spec's `seed`; must never feed DP noise or Poisson sampling.
 *
 * @param purpose says what the stream is for; streams of different purposes are independent.
 */
export function seededStream(seed: number, purpose: string): KeyedStream {
  const key = createHash('sha256')
    .update(encodeParts(['seed', String(seed)]))
    .digest();
  return derive(key, ['seeded', purpose]);
}
