/** @file Run folders: `runs/NAME/NUMBER` with `run.json`, the event log, and what is made from it. */

import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { closest, distance } from 'fastest-levenshtein';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Scheduling } from '../schemas/scheduling.ts';
import { statePaths } from '../stack/paths.ts';

export interface RunRecord {
  name: string;
  number: number;
  workflowId: string;
  planDigest: string;
  /** Absolute path of the spec. */
  specFile: string;
  /** ISO 8601, UTC. */
  startedAt: string;
  scheduling?: Scheduling;
  /** Id of the workflow of the schedule that started it; absent when a command did. */
  firing?: string;
}

export interface RunFolder {
  directory: string;
  record: RunRecord;
}

/** Row of the privacy ledger that the run knows of last: `{ledger, sequence, hash}`. */
export const ledgerHeadFile = (directory: string): string => join(directory, 'ledger-head.json');

/** The spec as the run read it, whatever becomes of the file. */
export const specCopy = (directory: string): string => join(directory, 'spec.yaml');

const recordFile = (directory: string): string => join(directory, 'run.json');

/**
 * Takes the next free number of a name and makes its folder; two processes never get the same number.
 * Write the record with `writeRun` next: a folder without one is no run yet.
 */
export function claimRunNumber(name: string): number {
  const parent = dirname(statePaths.run(name, 1));
  mkdirSync(parent, { recursive: true });
  for (let number = Math.max(0, ...numbersOf(name)) + 1; ; number += 1) {
    try {
      mkdirSync(statePaths.run(name, number));
      return number;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}

/** Writes the copy of the spec, then `run.json`, each whole or not at all; returns the run's folder. */
export function writeRun(record: RunRecord, specText: string): string {
  const directory = statePaths.run(record.name, record.number);
  mkdirSync(directory, { recursive: true });
  writeFileAtomically(specCopy(directory), specText);
  writeFileAtomically(recordFile(directory), JSON.stringify(record, null, 2) + '\n');
  return directory;
}

/** @throws EpsilonflowError RUN_UNKNOWN when the folder holds no run. */
export function readRun(directory: string): RunRecord {
  const record = readRecord(directory);
  if (record) return record;
  throw new EpsilonflowError('RUN_UNKNOWN', `${directory} holds no run.json.`, {
    hint: 'Start a run with: epsilonflow run SPEC.',
  });
}

/** Whether the folder holds a run. */
export const isRun = (directory: string): boolean => readRecord(directory) !== null;

/** Removes a run's folder: its record first, so that what is left of an interrupted removal is no run. */
export function removeRun(directory: string): void {
  rmSync(recordFile(directory), { force: true });
  rmSync(directory, { recursive: true, force: true });
}

/** Folders of runs, and those that were claimed and hold none yet. */
export function runDirectories(): string[] {
  if (!existsSync(statePaths.runs())) return [];
  return readdirSync(statePaths.runs(), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap((entry) => numbersOf(entry.name).map((number) => statePaths.run(entry.name, number)));
}

/** Every run known here, newest first. */
export function listRuns(): RunFolder[] {
  return runDirectories()
    .flatMap((directory) => {
      const record = readRecord(directory);
      return record ? [{ directory, record }] : [];
    })
    .sort((a, b) => b.record.startedAt.localeCompare(a.record.startedAt) || b.record.number - a.record.number);
}

/**
 * Finds a run by `NAME/NUMBER`, `NAME` (its latest) or `latest` (of all).
 *
 * @throws EpsilonflowError RUN_UNKNOWN when there is none, naming the nearest that exists.
 */
export function resolveRun(reference: string): RunFolder {
  const runs = listRuns();
  const [name = '', number, ...rest] = reference.split('/');
  const found = runs.find(({ record }) => {
    if (reference === 'latest') return true;
    if (rest.length > 0 || record.name !== name) return false;
    return number === undefined || number === 'latest' || number === String(record.number);
  });
  if (found) return found;
  throw new EpsilonflowError('RUN_UNKNOWN', `There is no run ${reference} in ${statePaths.runs()}.`, {
    hint: hintFor(reference, runs),
  });
}

/** Writes a file by way of a temporary one beside it, synced, so that a reader or a crash sees the old or the new. */
export function writeFileAtomically(path: string, content: string | Uint8Array): void {
  const temporary = `${path}.${process.pid}.tmp`;
  const file = openSync(temporary, 'w');
  try {
    const data = typeof content === 'string' ? Buffer.from(content) : content;
    let written = 0;
    while (written < data.length) written += writeSync(file, data, written);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
}

const numbersOf = (name: string): number[] => {
  const parent = dirname(statePaths.run(name, 1));
  return existsSync(parent)
    ? readdirSync(parent)
        .filter((entry) => /^[1-9]\d*$/.test(entry))
        .map(Number)
    : [];
};

function readRecord(directory: string): RunRecord | null {
  try {
    return JSON.parse(readFileSync(recordFile(directory), 'utf8')) as RunRecord;
  } catch (error) {
    // Claimed a moment ago by `run`, or left by one that ended before it started anything.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return null;
    throw error;
  }
}

function hintFor(reference: string, runs: RunFolder[]): string {
  if (runs.length === 0) return 'Start one: epsilonflow run SPEC.';
  const names = runs.map(({ record }) => `${record.name}/${record.number}`);
  const nearest = closest(reference, names);
  if (distance(reference, nearest) <= Math.max(2, reference.length / 3)) return `Did you mean ${nearest}?`;
  const shown = names.slice(0, 5).join(', ');
  return `A run is NAME/NUMBER or latest. There ${names.length === 1 ? 'is' : 'are'}: ${shown}${names.length > 5 ? ', ...' : ''}.`;
}
