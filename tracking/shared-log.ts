/**
 * @file The log of a run whose steps are done on several hosts: each host sends the lines that it wrote and takes those of
 * the others into its own log. Read is the own log alone, wherever the lines came from.
 */

import { existsSync, readFileSync } from 'node:fs';
import { mkdir, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Plan } from '../schemas/plan.ts';
import { writeDurably } from '../store/disk.ts';
import type { LogRange, SharedLogs } from '../store/index.ts';
import { passEvents, type Passed } from './door.ts';
import { appendEvents, decodeEvents, eventLog, type RunEvent } from './events.ts';

interface NamedRun {
  name: string;
  number: number;
}

/** The lines that this host wrote lie there once more, until they are sent and after that. */
const outbox = (runDirectory: string): string => join(runDirectory, 'shared-log');
const sentFile = (runDirectory: string): string => join(outbox(runDirectory), 'sent');
const seenFile = (runDirectory: string): string => join(outbox(runDirectory), 'seen.json');

/** Folders whose others were looked through as a whole since this process began. */
const lookedThrough = new Set<string>();

/** By folder and purpose, what goes on: a second call waits and finds nothing left to do. */
const turns = new Map<string, Promise<void>>();

function inTurn(name: string, work: () => Promise<void>): Promise<void> {
  const turn = (turns.get(name) ?? Promise.resolve()).catch(() => undefined).then(work);
  turns.set(name, turn);
  const forget = (): void => {
    if (turns.get(name) === turn) turns.delete(name);
  };
  turn.then(forget, forget);
  return turn;
}

/** Keeps events that this host wrote for the others. */
export const keepForOthers = (runDirectory: string, events: readonly Passed<RunEvent>[]): void =>
  appendEvents(outbox(runDirectory), events);

/** Sends what this host wrote since the last time. @throws EpsilonflowError SERVICE_UNREACHABLE, STORE_REFUSED */
export const sendEvents = (runDirectory: string, run: NamedRun, logs: SharedLogs): Promise<void> =>
  inTurn(`send ${runDirectory}`, async () => {
    const start = Number(await readFile(sentFile(runDirectory), 'utf8').catch(() => '0'));
    const lines = await wholeLines(eventLog(outbox(runDirectory)), start);
    if (lines.length === 0) return;
    await logs.sendEvents(run, start, lines);
    await writeDurably(sentFile(runDirectory), String(start + lines.length));
  });

/**
 * Takes what other hosts sent since the last time. A crash in the middle takes some of it twice, which counts once.
 *
 * @throws EpsilonflowError SERVICE_UNREACHABLE, STORE_REFUSED
 */
export const collectEvents = (
  runDirectory: string,
  run: NamedRun,
  plan: Pick<Plan, 'datasets' | 'nodes'>,
  logs: SharedLogs,
): Promise<void> =>
  inTurn(`collect ${runDirectory}`, async () => {
    const seen = readSeen(runDirectory);
    if (!lookedThrough.has(runDirectory)) for (const range of Object.values(seen)) range.start = 0;
    const segments = await logs.eventsElsewhere(run, seen);
    lookedThrough.add(runDirectory);
    if (segments.length === 0) return;
    for (const { host, start, end, lines } of segments) {
      appendEvents(runDirectory, passEvents(plan, decodeEvents(lines.toString('utf8'))));
      seen[host] = { start, end: Math.max(seen[host]?.end ?? 0, end) };
    }
    await mkdir(outbox(runDirectory), { recursive: true });
    await writeDurably(seenFile(runDirectory), JSON.stringify(seen));
  });

/** By host, the last segment that was taken. */
function readSeen(runDirectory: string): Record<string, LogRange> {
  if (!existsSync(seenFile(runDirectory))) return {};
  const seen = JSON.parse(readFileSync(seenFile(runDirectory), 'utf8')) as Record<string, LogRange | number>;
  // Earlier versions kept the end alone.
  const ranges = Object.entries(seen).map(([host, of]) => [host, typeof of === 'number' ? { start: 0, end: of } : of]);
  return Object.fromEntries(ranges) as Record<string, LogRange>;
}

async function wholeLines(path: string, start: number): Promise<Buffer> {
  const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (file === null) return Buffer.alloc(0);
  try {
    const { size } = await file.stat();
    const { buffer, bytesRead } = await file.read(Buffer.alloc(Math.max(0, size - start)), 0, null, start);
    return buffer.subarray(0, buffer.subarray(0, bytesRead).lastIndexOf(0x0a) + 1);
  } finally {
    await file.close();
  }
}
