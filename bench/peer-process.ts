/** @file A peer in a Python process that stays, so that its start and imports are not measured. */

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { packageRoot } from '../stack/paths.ts';
import { peerPython } from './peer-environment.ts';

export interface PeerScript {
  /** Of its Python environment. */
  environment: string;
  /** What pip installs there: "package==version". */
  pins: readonly string[];
  /** Path in this folder. It writes a line when it is ready, and then answers each line of JSON by one. */
  script: string;
}

export class PeerProcess<Answer> {
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;

  private constructor(python: string, script: string) {
    this.#process = spawn(python, ['-B', join(packageRoot, 'bench', script)]);
    this.#process.stderr.pipe(process.stderr);
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  static async start<Answer>(
    { environment, pins, script }: PeerScript,
    say: (text: string) => void,
  ): Promise<PeerProcess<Answer>> {
    const peer = new PeerProcess<Answer>(await peerPython(environment, pins, say), script);
    await peer.#next();
    return peer;
  }

  async #next(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error('The peer ended.');
    return value;
  }

  async ask(request: Record<string, unknown>): Promise<Answer> {
    this.#process.stdin.write(`${JSON.stringify(request)}\n`);
    return JSON.parse(await this.#next()) as Answer;
  }

  async close(): Promise<void> {
    this.#process.stdin.end();
    if (this.#process.exitCode === null) await once(this.#process, 'exit');
  }
}
