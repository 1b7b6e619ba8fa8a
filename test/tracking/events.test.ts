import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventLog, readEvents, type RunEvent } from '../../tracking/events.ts';
import { summariseRun } from '../../tracking/run-summary.ts';
import { writeEvents } from './made-up-run.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'epsilonflow-events-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const started = (node: string, time = 1): RunEvent => ({ type: 'node-started', time, node, attempt: 1 });
const metric = (step: number, value: number, time = step): RunEvent => ({
  type: 'metric',
  time,
  node: 'a',
  name: 'loss',
  value,
  step,
});
const completed: RunEvent = {
  type: 'node-completed',
  time: 9,
  node: 'a',
  key: 'k',
  reused: false,
  metrics: { accuracy: 0.7 },
  seconds: 3,
  attempt: 1,
};

describe('the event log', () => {
  it('gives back what was appended, from any place on', () => {
    writeEvents(folder, [started('a'), metric(1, NaN)]);
    const first = readEvents(folder);
    writeEvents(folder, [metric(2, Infinity), completed]);
    expect(first.events).toEqual([started('a'), metric(1, NaN)]);
    expect(readEvents(folder, first.nextByte).events).toEqual([metric(2, Infinity), completed]);
  });

  it('loses only the torn line after a crash in the middle of a write', () => {
    writeEvents(folder, [started('a')]);
    appendFileSync(eventLog(folder), '{"type":"metric","ti');
    expect(readEvents(folder).events).toEqual([started('a')]);
    writeEvents(folder, [completed]);
    expect(readEvents(folder).events).toEqual([started('a'), completed]);
  });

  it('is empty before anything happened', () => {
    expect(readEvents(join(folder, 'nowhere'))).toEqual({ events: [], nextByte: 0 });
  });
});

describe('the summary of a run', () => {
  it('counts an event that a retried activity appended twice once', () => {
    const once = summariseRun([started('a'), metric(1, 3), metric(2, 2), completed]);
    const twice = summariseRun([started('a'), metric(1, 3), metric(1, 3, 77), metric(2, 2), completed, completed]);
    expect(twice).toEqual(once);
  });

  it('keeps a result whatever comes after, and forgets a failure that a later attempt mends', () => {
    const failed: RunEvent = { type: 'node-failed', time: 5, node: 'a', code: 'JOB_CRASHED', message: 'gone' };
    expect(
      summariseRun([started('a'), failed, { ...started('a', 6), attempt: 2 } as RunEvent, completed]).nodes.get('a'),
    ).toMatchObject({
      status: 'completed',
      attempt: 2,
      failure: null,
      startedAt: 1,
    });
    expect(summariseRun([started('a'), completed, failed]).nodes.get('a')).toMatchObject({ status: 'completed' });
    expect(summariseRun([started('a'), failed]).nodes.get('a')).toMatchObject({
      status: 'failed',
      failure: { code: 'JOB_CRASHED' },
    });
  });
});
