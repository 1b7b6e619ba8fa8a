/** @file Other engines that run the graph of the orchestration benchmark, each in a Python process of its own. */

import { readFileSync } from 'node:fs';

import { PeerProcess } from '../peer-process.ts';

export interface Engine {
  name: string;
  /** With its version, and how it runs. */
  title: string;
  start(say: (text: string) => void): Promise<PeerProcess<EngineAnswer>>;
}

export interface EngineAnswer {
  /** Of processor time, the engine's server included. */
  milliseconds: number;
  /** That completed. */
  steps: number;
}

/** What pip installs, dependencies too: each line names a package and its version. */
const pinsOf = (name: string): string[] =>
  readFileSync(new URL(`${name}.txt`, import.meta.url), 'utf8')
    .trim()
    .split('\n');

function engine(name: string, how: (version: string) => string): Engine {
  const pins = pinsOf(name);
  const version = pins.find((pin) => pin.startsWith(`${name}==`))!.slice(name.length + 2);
  return {
    name,
    title: how(version),
    start: (say) => PeerProcess.start({ environment: name, pins, script: `engines/${name}-peer.py` }, say),
  };
}

export const engines: readonly Engine[] = [
  engine('prefect', (version) => `Prefect ${version}, its server on SQLite, results kept`),
  engine('dagster', (version) => `Dagster ${version}, all steps in one process, events in SQLite, results kept`),
  engine('snakemake', (version) => `Snakemake ${version}, a file for each result, no history`),
];
