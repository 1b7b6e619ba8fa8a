/** @file The command line in the process of the test: a process of its own takes a second to start. */

import { vi } from 'vitest';

import { main } from '../../cli/main.ts';

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a command. Its environment is that of the test. */
export async function epsilonflow(...args: string[]): Promise<Outcome> {
  const outcome: Outcome = { code: 0, stdout: '', stderr: '' };
  const keep = (stream: 'stdout' | 'stderr') =>
    vi.spyOn(process[stream], 'write').mockImplementation((text) => {
      outcome[stream] += String(text);
      return true;
    });
  const spies = [keep('stdout'), keep('stderr')];
  const before = process.exitCode;
  process.exitCode = undefined;
  try {
    await main(args);
    outcome.code = Number(process.exitCode ?? 0);
  } finally {
    for (const spy of spies) spy.mockRestore();
    process.exitCode = before;
  }
  return outcome;
}
