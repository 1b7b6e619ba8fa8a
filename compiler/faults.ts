/** @file Collects the faults of a spec, and guesses what a misspelt name was meant to be. */

import { distance } from 'fastest-levenshtein';

import type { ErrorCode } from '../schemas/error-codes.ts';
import { EpsilonflowError, type Position, SpecFaults } from '../schemas/errors.ts';

/** The candidate that a misspelt name most likely means; undefined when none is close. */
export function didYouMean(name: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let least = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of candidates) {
    const steps = distance(name.toLowerCase(), candidate.toLowerCase());
    // A candidate that shares nothing with the name is no guess.
    if (steps < least && steps < name.length) [best, least] = [candidate, steps];
  }
  return best;
}

/** All parameters of a step kind, and not a long axis. */
const MOST_SHOWN = 24;

/** "Did you mean X?", or the list of what there is, or undefined when there is nothing. */
export function suggestion(name: string, candidates: Iterable<string>, what: string): string | undefined {
  const known = [...candidates];
  const guess = didYouMean(name, known);
  if (guess !== undefined) return `Did you mean "${guess}"?`;
  if (known.length === 0) return `There is no ${what} here.`;
  const shown = known.slice(0, MOST_SHOWN).map((candidate) => `"${candidate}"`);
  return `Known: ${shown.join(', ')}${known.length > MOST_SHOWN ? ', ...' : ''}.`;
}

/** All faults found so far; a fault is kept once, however many instances run into it. */
export class FaultList {
  readonly #faults = new Map<string, EpsilonflowError>();
  readonly #settled = new Set<string>();

  add(code: ErrorCode, message: string, position: Position, hint?: string): void {
    this.push(new EpsilonflowError(code, message, { position, ...(hint === undefined ? {} : { hint }) }));
  }

  push(fault: EpsilonflowError): void {
    const { line = 0, column = 0 } = fault.position ?? {};
    // What YAML can't read has no other faults, and a column that two files lack is named once.
    const place = `${line}:${column}`;
    if (this.#settled.has(place)) return;
    if (fault.code === 'SPEC_SYNTAX' || fault.code === 'DATA_COLUMN_MISSING') this.#settled.add(place);
    const key = `${line}:${column}:${fault.code}:${fault.message}`;
    if (!this.#faults.has(key)) this.#faults.set(key, fault);
  }

  /** @throws SpecFaults with all faults, in the order of the file, when there are any. */
  throwIfAny(keep: (fault: EpsilonflowError) => boolean = () => true): void {
    if (this.#faults.size === 0) return;
    const place = (fault: EpsilonflowError): number =>
      (fault.position?.line ?? 0) * 1e6 + (fault.position?.column ?? 0);
    const faults = [...this.#faults.values()].filter(keep).sort((a, b) => place(a) - place(b));
    throw new SpecFaults(faults);
  }
}
