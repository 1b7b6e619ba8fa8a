import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { takeAuthority } from '../../activities/authority.ts';
import { createBudgetActivities } from '../../activities/budget.ts';
import type { RunIdentity, StepOutcome } from '../../activities/contract.ts';
import { keepRun, offerAllLogs, takeLogs } from '../../activities/log-sharing.ts';
import { createPlanReading } from '../../activities/plan-slices.ts';
import { createRunRecording } from '../../activities/run-record.ts';
import { runDirectory, type WorkerParts } from '../../activities/worker-parts.ts';
import { openLedger, type Ledger } from '../../privacy/ledger/index.ts';
import type { Plan } from '../../schemas/plan.ts';
import { openStore } from '../../store/index.ts';
import { readEvents } from '../../tracking/events.ts';
import { readExpectations, shareExpectations, takeExpectations, writeExpectations } from '../../tracking/past-costs.ts';
import { publishRun } from '../../tracking/publish.ts';
import { readRun } from '../../tracking/runs.ts';
import { startObjectServer, type ObjectServer } from '../object-server.ts';
import { requires } from '../requires.ts';
import { makeUpRun } from '../tracking/made-up-run.ts';
import { startMlflow } from '../tracking/mlflow-server.ts';

describe.runIf(requires('object-storage', 'several hosts of the control queue'))('two hosts of control', () => {
  let server: ObjectServer;
  let root: string;
  let run: RunIdentity;
  let plan: Plan;
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
    const made = await makeUpRun({ stopAfter: 0 });
    const { record, store } = made;
    ({ plan } = made);
    const { name, number, workflowId, planDigest, startedAt } = record;
    run = { name, number, workflowId, planDigest };
    started = plan.nodes[0]!.id;
    await store.runs.claim({ name, number, planDigest, startedAt, specText: 'version: 1\n' });
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
    const { startedAt } = readRun(runDirectory(run));
    const other = onHost('other');
    await createRunRecording(other).writeRunReport(run);
    // What the tracker knows the run by.
    expect(readRun(runDirectory(run))).toMatchObject({ ...run, startedAt });
    expect(existsSync(join(runDirectory(run), 'report.html'))).toBe(true);
  });

  it('tell each other at once what was reused', async () => {
    await createPlanReading(onHost('other')).recordReused(run, [started]);
    const one = onHost('one');
    await takeLogs(one, run);
    expect(readEvents(runDirectory(run)).events).toMatchObject([{ type: 'node-completed', node: started }]);
  });

  it('commit a step once, whoever is asked to and how often', async () => {
    const one = onHost('one');
    const node = plan.nodes.find(({ privacy }) => privacy?.mechanism.kind === 'unbounded')!;
    const activities = createBudgetActivities(one);
    const head = await activities.reservePlan(run, [node.id], null);
    const receipts = await activities.readReceipts(run, [node.id], head);
    const ledgerHead = await activities.openPrivateStep(run, receipts, head);
    const { tokens } = (await takeAuthority(one, node, receipts, 1, ledgerHead))!;
    const outcome: StepOutcome = {
      ...{ key: node.key, seconds: 1, attempt: 1, ledgerHead },
      metrics: {} as StepOutcome['metrics'],
      commits: tokens.map((token) => ({ token, proof: null })),
    };
    const request = { run, nodeId: node.id, receipts, ledgerHead };
    await activities.commitPrivateStep(request, outcome);
    await createBudgetActivities(onHost('other')).commitPrivateStep(request, outcome);
    await createBudgetActivities(onHost('one')).commitPrivateStep(request, outcome);

    const entries = { reserved: 0, begun: 0, committed: 1, released: 0 };
    expect((await ledger.accountSummary('speeches'))!.experiments).toMatchObject([{ entries }]);
    await ledger.verify();
    for (const name of ['one', 'other']) {
      await takeLogs(onHost(name), run);
      // Said twice it counts once, which needs the same words.
      const said = readEvents(runDirectory(run)).events.map((event) => ({ ...event, time: 0 }));
      expect(said[0]).toMatchObject({ type: 'node-completed', node: node.id, ledgerEntries: [receipts[0]!.entryId] });
      expect(said).toEqual(said.map(() => said[0]));
    }
  });

  it('publish a run once, one after the other and both at a time', { timeout: 180_000 }, async () => {
    const mlflow = await startMlflow();
    try {
      const half = plan.nodes.length / 2;
      const ids = plan.nodes.map(({ id }) => id);
      const host = (name: string) => {
        const parts = { ...onHost(name), trackerUri: () => Promise.resolve(mlflow.uri) };
        return { parts, ...createRunRecording(parts), ...createPlanReading(parts), directory: runDirectory(run) };
      };
      const one = host('one');
      await one.startRun(run);
      await one.recordReused(run, ids.slice(0, half));
      await one.publishToTracker(run);
      const other = host('other');
      await other.recordReused(run, ids.slice(half));
      await other.endRun(run, 'completed');
      await other.publishToTracker(run);
      await takeLogs(host('one').parts, run);
      // Neither remembers what it sent.
      for (const { directory } of [one, other]) rmSync(join(directory, 'published.json'));
      await Promise.all(
        [one, other].map(({ directory, parts }) => publishRun(directory, plan, parts.store, mlflow.uri)),
      );

      const published = await publishedRuns(mlflow.uri, plan.name);
      expect(published.map(({ name }) => name).sort()).toEqual([...ids, 'made-up/1'].sort());
      expect(new Set(published.map(({ status }) => status))).toEqual(new Set(['FINISHED']));
    } finally {
      await mlflow.stop();
    }
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

async function publishedRuns(uri: string, experiment: string): Promise<{ name: string; status: string }[]> {
  const api = `${uri}/api/2.0/mlflow`;
  const found = (await (await fetch(`${api}/experiments/get-by-name?experiment_name=${experiment}`)).json()) as {
    experiment: { experiment_id: string };
  };
  const body = JSON.stringify({ experiment_ids: [found.experiment.experiment_id], max_results: 1000 });
  const headers = { 'content-type': 'application/json' };
  const page = (await (await fetch(`${api}/runs/search`, { method: 'POST', headers, body })).json()) as {
    runs: { info: { run_name: string; status: string } }[];
  };
  return page.runs.map(({ info }) => ({ name: info.run_name, status: info.status }));
}
