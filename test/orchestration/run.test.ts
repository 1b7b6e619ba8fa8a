import { setTimeout as sleep } from 'node:timers/promises';
import { readFileSync } from 'node:fs';
import { Client, Connection } from '@temporalio/client';
import { describe, expect, it } from 'vitest';
import { killProcess } from '../../activities/process-identity.ts';
import { openLedger } from '../../privacy/ledger/index.ts';
import { ledgerUrl } from '../../stack/paths.ts';
import { ensureTemporal } from '../../stack/services.ts';
import { findWorker } from '../../stack/worker-process.ts';
import { readEvents } from '../../tracking/events.ts';
import {
  epsilonflow,
  epsilonflowJson,
  generatorStep,
  jobProcesses,
  processorTimeDuring,
  specHead,
} from './tiny-experiment.ts';
import { worldOfTests } from './world-of-tests.ts';

/** A run of seconds; `changes` replaces values of the generator step. */
const spec = (name: string, changes: Record<string, string | number> = {}, epsilon = 20): string =>
  `${specHead(name, { epsilon })}
matrix:
  epsilon: [2, 4]
steps:
${generatorStep({ epsilon: '"${{ matrix.epsilon }}"', ...changes })}
  synthetic:
    uses: generate
    with: { generator: "\${{ steps.generator }}", count: 40, maxTokens: 12, temperature: 1, seed: 1 }
  classifier:
    uses: train-classifier
    with: { family: word-cnn, train: "\${{ steps.synthetic }}", test: weather, epochs: 2, seed: 1 }
  comparison:
    uses: compare
    with: { arms: { synthetic: "\${{ steps.classifier }}" }, over: [] }
`;

interface Outcome {
  run: string;
  status: string;
  workflowId: string;
  directory: string;
  counts: Record<string, number>;
  links: { report: string | null };
  failures: { node: string; code: string; message: string }[];
  errors: { code: string }[];
}

const world = worldOfTests();

const runSpec = (file: string, ...options: string[]): ReturnType<typeof epsilonflowJson<Outcome>> =>
  epsilonflowJson(world(), 'run', file, ...options);

async function until(what: string, look: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 120_000; !(await look()); await sleep(50)) {
    if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}`);
  }
}

const trains = (directory: string): boolean => readEvents(directory).events.some(({ type }) => type === 'metric');

describe('epsilonflow run', () => {
  it('takes a spec to its result, and reuses all of it the next time', async () => {
    const file = world().write('whole.yaml', spec('whole'));
    const first = await runSpec(file);
    expect(first).toMatchObject({ code: 0, status: 'completed', run: 'whole/1', errors: [] });
    expect(first.counts).toMatchObject({ nodes: 8, completed: 8, reused: 0, failed: 0 });
    expect(readFileSync(first.links.report!, 'utf8')).toContain('whole');
    const ledger = await openLedger(ledgerUrl());
    const before = await ledger.accountSummary('weather');
    expect(before?.experiments.map(({ entries }) => entries.committed)).toEqual([2]);

    const second = await epsilonflow(world(), 'run', file);
    expect(second.code).toBe(0);
    expect(second.stdout).toContain('8 of 8 instances done, 8 of them reused from earlier runs');
    expect((await ledger.accountSummary('weather'))?.total).toBe(before?.total);
    await ledger.close();
  }, 300_000);

  it('keeps everything that does not depend on an instance that failed', async () => {
    // Fails in the step itself: the base model's context is 64 tokens.
    const file = world().write('partly.yaml', spec('partly', { sequence: 96 }).replace('[2, 4]', '[3]'));
    const { code, counts, failures, errors } = await runSpec(file);
    expect(code).toBe(1);
    expect(counts).toMatchObject({ failed: 1, skipped: 3 });
    expect(failures).toMatchObject([{ node: 'generator[epsilon=3]', code: 'MODEL_UNFIT' }]);
    expect(errors).toMatchObject([{ code: 'STEP_FAILED' }]);
    // It began, and failed before its first noise.
    const ledger = await openLedger(ledgerUrl());
    const account = await ledger.accountSummary('weather');
    expect(account?.experiments.map(({ entries }) => entries)).toContainEqual({
      reserved: 0,
      begun: 1,
      committed: 0,
      released: 0,
    });
    expect(account?.reserved).toBe(0);
    await ledger.close();
  }, 120_000);

  it('refuses a run over budget with exit code 3 and starts nothing', async () => {
    const file = world().write('greedy.yaml', spec('greedy', { seed: 9 }, 1));
    const { code, stdout } = await epsilonflow(world(), 'run', file, '--json');
    expect(code).toBe(3);
    expect(JSON.parse(stdout)).toMatchObject({ errors: [{ code: 'BUDGET_REFUSED' }] });
    const status = await epsilonflow(world(), 'status', '--json');
    expect((JSON.parse(status.stdout) as { runs: { run: string }[] }).runs.map(({ run }) => run)).not.toContain(
      'greedy/1',
    );
  });

  it('is left by Ctrl-C, shown again by the same command, goes on when the worker dies, and ends by cancel', async () => {
    const file = world().write('long.yaml', spec('long', { steps: 5000, seed: 2 }).replace('[2, 4]', '[1]'));
    const started = await runSpec(file, '--detach');
    expect(started).toMatchObject({ code: 0, status: 'running', run: 'long/1' });

    const attached = epsilonflow(world(), 'run', file);
    let said = '';
    attached.child.stderr!.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await until('it is attached', () => said.includes('long/1 goes on'));
    await until('it trains', () => trains(started.directory));
    attached.child.kill('SIGINT');
    const left = await attached;
    expect(left.code).toBe(0);
    expect(left.stderr).toContain('long/1 goes on');
    expect(left.stderr).toContain('Detached: the run goes on');

    const again = epsilonflow(world(), 'run', file, '--json');
    killProcess(findWorker()!.process, 'SIGKILL');
    await until('another attempt has begun', () =>
      readEvents(started.directory).events.some((event) => event.type === 'node-started' && event.attempt === 2),
    );
    const seconds = await processorTimeDuring(world(), async () => {
      const cancelled = await epsilonflow(world(), 'cancel', 'long/1', '--json');
      expect(JSON.parse(cancelled.stdout)).toEqual({ run: 'long/1', cancelled: true });
    });
    expect(seconds).toBeLessThan(10);
    const ended = await again;
    expect(ended.code).toBe(5);
    expect(JSON.parse(ended.stdout)).toMatchObject({ status: 'cancelled', counts: { cancelled: 1, skipped: 3 } });
    expect(jobProcesses(world())).toEqual([]);

    // What had begun stays charged; a new run is a new entry.
    const ledger = await openLedger(ledgerUrl());
    const spending = (await ledger.accountSummary('weather'))?.experiments.find(
      ({ workflowId }) => workflowId === started.workflowId,
    );
    expect(spending?.entries).toEqual({ reserved: 0, begun: 1, committed: 0, released: 0 });
    await ledger.close();
  }, 300_000);

  it('tells Temporal what runs in words that people read', async () => {
    const { address } = await ensureTemporal();
    const client = new Client({ connection: await Connection.connect({ address }) });
    const ids: string[] = [];
    for await (const { workflowId } of client.workflow.list({ query: 'WorkflowType = "privateStep"' }))
      ids.push(workflowId);
    expect(ids.some((id) => /^whole\/1-[0-9a-f]{8}\/generator-epsilon-2$/.test(id))).toBe(true);
    const activities: string[] = [];
    for await (const { workflowId } of client.workflow.list({ query: 'WorkflowType = "stepBatch"' })) {
      if (!/^whole\/1-[0-9a-f]{8}\/batch\.\d+$/.test(workflowId)) continue;
      const { events = [] } = await client.workflow.getHandle(workflowId).fetchHistory();
      for (const { activityTaskScheduledEventAttributes: activity } of events!)
        if (activity) activities.push(`${activity.activityType?.name} ${activity.activityId}`);
    }
    expect(activities).toContain('generate synthetic-epsilon-2');
    await client.connection.close();
  });
});
