/** @file A process that asks the accountants for the extremes and nothing else; prints answers, times and its peak memory. */

import { readFileSync } from 'node:fs';

import { composedEpsilon, mergeEvents, type ComposedEpsilon } from '../../privacy/accounting/index.ts';
import { pldEpsilon } from '../../privacy/accounting/loss-distribution.ts';
import { extremeQueries, type Query } from './extreme-queries.ts';

export interface ExtremeAnswer extends ComposedEpsilon, Query {
  /** Processor time, so that a busy machine does not count. */
  seconds: number;
  /** By Renyi divergence alone. */
  renyi: number;
  /** By privacy-loss distributions alone, where Renyi divergence gave the answer. JSON has no infinity: null. */
  distribution: number | null;
}

function answer({ events, delta }: Query): ExtremeAnswer {
  const before = process.cpuUsage();
  const composed = composedEpsilon(events, delta);
  const { user, system } = process.cpuUsage(before);
  const renyi = composedEpsilon(events, delta, 'rdp').epsilon;
  const distribution = composed.accountant === 'rdp' ? pldEpsilon(mergeEvents(events), delta) : null;
  return { events, delta, ...composed, seconds: (user + system) / 1e6, renyi, distribution };
}

const answers = Object.fromEntries(Object.entries(extremeQueries).map(([name, asked]) => [name, asked.map(answer)]));
const peakKilobytes = Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]);
process.stdout.write(JSON.stringify({ answers, peakKilobytes }));
