/** @file The peer of the learning benchmark: PyTorch, Opacus and transformers in processes of their own. */

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { packageRoot } from '../../stack/paths.ts';
import { peerPython } from '../peer-environment.ts';

// torch's wheel on PyPI needs CUDA's libraries to load, also where there is no card: they come with it.
const pins = [
  'torch==2.12.1',
  'opacus==1.6.0',
  'transformers==4.57.6',
  'numpy==2.2.6',
  'opt_einsum==3.4.0',
  'safetensors==0.8.0',
  'scipy==1.15.3',
  'tokenizers==0.22.2',
];

export type PeerRequest = Record<string, unknown>;

export interface PeerAnswer {
  /** Of each step. */
  seconds: number[];
  /** Most memory that the process has held. */
  peakBytes: number;
}

/** A Python process that answers one request a line. */
export class LearningPeer {
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;

  private constructor(python: string) {
    this.#process = spawn(python, [join(packageRoot, 'bench', 'learning', 'peer.py')]);
    this.#process.stderr.pipe(process.stderr);
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  static async start(say: (text: string) => void): Promise<LearningPeer> {
    const peer = new LearningPeer(await peerPython('learning', pins, say));
    await peer.#next();
    return peer;
  }

  async #next(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error('The peer ended.');
    return value;
  }

  async ask(request: PeerRequest): Promise<PeerAnswer> {
    this.#process.stdin.write(`${JSON.stringify(request)}\n`);
    return JSON.parse(await this.#next()) as PeerAnswer;
  }

  async close(): Promise<void> {
    this.#process.stdin.end();
    if (this.#process.exitCode === null) await once(this.#process, 'exit');
  }
}
