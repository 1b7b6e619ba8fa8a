/** @file What Temporal would remember of a workflow: results and failures of its activities, on disk once they are known. */

import { readFileSync } from 'node:fs';

import { EpsilonflowError } from '../../schemas/errors.ts';
import type { ErrorCode } from '../../schemas/error-codes.ts';
import { writeDurably } from '../../store/disk.ts';

type Outcome = { result: unknown } | { code: ErrorCode };

export class History {
  private readonly file: string | null;
  private readonly known: Record<string, Outcome>;

  /** @param file null: nothing is remembered, and all activities are done again. */
  constructor(file: string | null) {
    this.file = file;
    this.known = file === null ? {} : readOutcomes(file);
  }

  /** The result or failure of an activity, from its first completion. `mayTell` is asked before it is remembered. */
  async activity<T>(name: string, work: () => Promise<T>, mayTell: () => void): Promise<T> {
    const known = this.known[name];
    if (known !== undefined && 'code' in known) throw new EpsilonflowError(known.code, 'As remembered.');
    if (known !== undefined) return known.result as T;
    try {
      const result = await work();
      mayTell();
      await this.remember(name, { result });
      return result;
    } catch (error) {
      mayTell();
      if (error instanceof EpsilonflowError) await this.remember(name, { code: error.code });
      throw error;
    }
  }

  private async remember(name: string, outcome: Outcome): Promise<void> {
    this.known[name] = outcome;
    if (this.file !== null) await writeDurably(this.file, JSON.stringify(this.known));
  }
}

function readOutcomes(file: string): Record<string, Outcome> {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Record<string, Outcome>;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
}
