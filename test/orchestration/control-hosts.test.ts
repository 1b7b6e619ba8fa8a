import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { RunIdentity } from '../../activities/contract.ts';
import { keepRun, offerAllLogs, takeLogs } from '../../activities/log-sharing.ts';
import { createPlanReading } from '../../activities/plan-slices.ts';
import { createRunRecording } from '../../activities/run-record.ts';
import { runDirectory, type WorkerParts } from '../../activities/worker-parts.ts';
import { openLedger, type Ledger } from '../../privacy/ledger/index.ts';
import { openStore } from '../../store/index.ts';
import { readEvents } from '../../tracking/events.ts';
import { readExpectations, shareExpectations, takeExpectations, writeExpectations } from '../../tracking/past-costs.ts';
import { readRun } from '../../tracking/runs.ts';
import { startObjectServer, type ObjectServer } from '../object-server.ts';
import { requires } from '../requires.ts';
import { makeUpRun } from '../tracking/made-up-run.ts';

describe.runIf(requires('object-storage', 'several hosts of the control queue'))('two hosts of control', () => {
  let server: ObjectServer;
  let root: string;
  let run: RunIdentity;
  let started: string;
  let ledger: Ledger;

  beforeAll(async () => (server = await startObjectServer()));
  afterAll(() => server?.remove());
  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), 'control hosts '));
    const environment = {
      ...server.environment,
      EPSILONFLOW_RUN_SECRET: 'a secret that hosts of this test share',
      EPSILONFLOW_STORE_URL: `s3://results/test-${Math.random().toString(36).slice(2)}`,
    };
    ledger = await openLedger(`sqlite:${join(root, 'ledger.db')}`);
    for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
    onHost('one');
    const { record, plan, store } = await makeUpRun({ stopAfter: 0 });
    const { name, number, workflowId, planDigest } = record;
    run = { name, number, workflowId, planDigest };
    started = plan.nodes[0]!.id;
    await store.runs.claim({ name, number, planDigest, specText: 'version: 1\n' });
  });
  afterEach(async () => {
    await ledger.close();
    vi.unstubAllEnvs();
    rmSync(root, { recursive: true, force: true });
  });

  /** Whose state folder is used from here on. */
  function onHost(name: string): WorkerParts {
    vi.stubEnv('EPSILONFLOW_HOME', join(root, name));
    const none = (): Promise<never> => Promise.reject(new Error('Nothing private here'));
    return {
      store: openStore(),
      ledger: () => Promise.resolve(ledger),
      datasetSecret: none,
      trackerUri: () => Promise.resolve(null),
    };
  }

  it('write the report also where the run was not started', async () => {
    const other = onHost('other');
    await createRunRecording(other).writeRunReport(run);
    expect(readRun(runDirectory(run))).toMatchObject(run);
    expect(existsSync(join(runDirectory(run), 'report.html'))).toBe(true);
  });

  it('tell each other at once what was reused', async () => {
    await createPlanReading(onHost('other')).recordReused(run, [started]);
    const one = onHost('one');
    await takeLogs(one, run);
    expect(readEvents(runDirectory(run)).events).toMatchObject([{ type: 'node-completed', node: started }]);
  });

  it('send later what they could not send', async () => {
    const other = onHost('other');
    vi.spyOn(other.store.logs!, 'sendEvents').mockRejectedValueOnce(new Error('away'));
    await createRunRecording(other).recordPause(run, true);
    const one = onHost('one');
    await takeLogs(one, run);
    expect(readEvents(runDirectory(run)).events).toEqual([]);
    await offerAllLogs(onHost('other'));
    await takeLogs(onHost('one'), run);
    expect(readEvents(runDirectory(run)).events).toMatchObject([{ type: 'run-paused' }]);
  });

  it('know what was expected of a run on whichever it was started', async () => {
    const one = onHost('one');
    const expectations = { [started]: { drivers: null, seconds: 90, bytes: 10 } };
    const folder = { directory: runDirectory(run), record: readRun(runDirectory(run)) };
    writeExpectations(folder.directory, expectations);
    await shareExpectations(folder, one.store);
    const other = onHost('other');
    await keepRun(other, run);
    const elsewhere = { ...folder, directory: runDirectory(run) };
    expect(readExpectations(elsewhere.directory)).toBeNull();
    expect(await takeExpectations(elsewhere, { logs: null })).toBeNull();
    expect(await takeExpectations(elsewhere, other.store)).toEqual(expectations);
    expect(readExpectations(elsewhere.directory)).toEqual(expectations);
  });
});
