import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Client, Connection, ScheduleOverlapPolicy } from '@temporalio/client';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { AgreedAccount } from '../../activities/contract.ts';
import { listSchedules, type ScheduleStatus } from '../../cli/schedules.ts';
import { statePaths } from '../../stack/paths.ts';
import { ensureTemporal } from '../../stack/services.ts';
import { readExpectations } from '../../tracking/past-costs.ts';
import { listRuns } from '../../tracking/runs.ts';
import { epsilonflowJson, generatorStep, specHead, syntheticStep } from '../orchestration/tiny-experiment.ts';
import { experimentsCharged, worldOfTests } from '../orchestration/world-of-tests.ts';

interface Answer {
  schedules: ScheduleStatus[];
  errors: { code: string; message: string }[];
  agreed: Record<string, AgreedAccount>;
  next: string;
  run: string;
}

const nightly = `${specHead('nightly')}
steps:
${generatorStep({ steps: 2 })}`;

/** The budget is not meant. */
const atEpsilon = (epsilon: number): string => nightly.replace(/epsilon: 2$/m, `epsilon: ${epsilon}`);

const world = worldOfTests();
let client: Client;

beforeAll(async () => {
  // Each process that prepares a firing dies once it has written its run down.
  world().environment['EPSILONFLOW_FAILPOINT'] = 'firing: written';
  const { address } = await ensureTemporal();
  client = new Client({ connection: await Connection.connect({ address }) });
}, 120_000);

afterAll(() => client.connection.close());

const command = (...args: string[]): ReturnType<typeof epsilonflowJson<Answer>> => epsilonflowJson(world(), ...args);
const schedule = (...args: string[]): ReturnType<typeof command> => command('schedule', ...args);
const create = (file: string, ...args: string[]): ReturnType<typeof command> =>
  schedule('create', file, '--cron', '0 3 1 1 *', ...args);

/** Where the first activity of a firing was done. */
async function queueOfCompiling(workflowId: string): Promise<string | null | undefined> {
  const { events } = await client.workflow.getHandle(workflowId).fetchHistory();
  const scheduled = events!.find((event) => event.activityTaskScheduledEventAttributes);
  return scheduled!.activityTaskScheduledEventAttributes!.taskQueue!.name;
}

async function statusOf(name: string): Promise<ScheduleStatus | undefined> {
  return (await listSchedules(client)).find((each) => each.schedule === name);
}

/** Lets a schedule fire as if it were time, and waits for the firing that is the `count`-th to get one of the states. */
async function fire(name: string, count: number, ...states: string[]): Promise<ScheduleStatus['firings'][number]> {
  const handle = client.schedule.getHandle(name);
  // A run tells its end before its report is written; until then a firing would be left out.
  await vi.waitUntil(async () => (await handle.describe()).info.runningActions.length === 0, {
    timeout: 200_000,
    interval: 500,
  });
  await handle.trigger(ScheduleOverlapPolicy.SKIP);
  return vi.waitUntil(
    async () => {
      const { firings = [] } = (await statusOf(name)) ?? {};
      return firings.length === count && states.includes(firings[0]!.status) && firings[0];
    },
    { timeout: 200_000, interval: 500 },
  );
}

it('makes no schedule that may spend without a word, at impossible times, or twice', async () => {
  const file = world().write('nightly.yaml', nightly);
  const unconfirmed = await create(file);
  expect(unconfirmed).toMatchObject({ code: 3, errors: [{ code: 'SPENDING_UNCONFIRMED' }] });
  expect(unconfirmed.stderr).toMatch(/weather \(benchmark\): epsilon [\d.]+ at delta [\d.e-]+; its budget is 20/);
  for (const cron of ['every monday', '0 0 30 2 *']) {
    const refused = await schedule('create', file, '--cron', cron, '--spend');
    expect(refused).toMatchObject({ code: 2, errors: [{ code: 'ARGUMENT_INVALID' }] });
    expect(refused.errors[0]!.message).toContain(cron);
  }
  const created = await create(file, '--spend');
  expect(created.code).toBe(0);
  expect(created.next).toMatch(/^\d{4}-01-01T03:00:00\.000Z$/);
  expect(created.agreed['weather']!.epsilon).toBeGreaterThan(1);
  expect(created.agreed['weather']).toMatchObject({ ledgerAccount: 'weather', sensitivity: 'benchmark', waivers: [] });
  expect(await create(file, '--spend')).toMatchObject({ code: 2, errors: [{ code: 'ARGUMENT_INVALID' }] });
}, 400_000);

it('makes one run of a firing whose process is killed on the way, and a run is like any other', async () => {
  const first = await fire('nightly', 1, 'completed', 'failed');
  expect(first).toMatchObject({ status: 'completed', run: 'nightly/1', errors: [] });
  expect(listRuns().map(({ record }) => `${record.name}/${record.number}`)).toEqual(['nightly/1']);
  expect(Object.keys(readExpectations(listRuns()[0]!.directory)!)).toEqual(['generator']);
  // Only a worker of this state folder has spec, data and earlier firings.
  expect(await queueOfCompiling(first.workflowId)).toBe(`control.${readFileSync(statePaths.owner(), 'utf8')}`);
  expect(await experimentsCharged()).toMatchObject([{ entries: { committed: 1, reserved: 0 } }]);
  // What is there is reused, and charged once.
  expect(await fire('nightly', 2, 'completed')).toMatchObject({ run: 'nightly/2' });
  expect(await experimentsCharged()).toHaveLength(1);
}, 600_000);

it('records why a firing was refused, and charges nothing', async () => {
  const file = world().write('nightly.yaml', atEpsilon(3));
  const unagreed = await fire('nightly', 3, 'refused');
  expect(unagreed.errors).toMatchObject([{ code: 'SPENDING_UNCONFIRMED' }]);
  writeFileSync(file, atEpsilon(50));
  expect((await fire('nightly', 4, 'refused')).errors).toMatchObject([{ code: 'BUDGET_REFUSED' }]);
  writeFileSync(file, nightly.replace('uses: finetune', 'uses: finetun'));
  expect((await fire('nightly', 5, 'refused')).errors[0]!.code).toMatch(/^SPEC_/);
  rmSync(file);
  expect((await fire('nightly', 6, 'refused')).errors).toMatchObject([{ code: 'SPEC_FILE_MISSING' }]);
  expect(await experimentsCharged()).toHaveLength(1);
  expect(listRuns()).toHaveLength(2);
}, 600_000);

it('leaves a firing out while the run of the one before goes on, and ends when it is deleted', async () => {
  const held = nightly.replace('name: nightly', 'name: held') + syntheticStep('approval: required');
  expect(await create(world().write('held.yaml', held), '--spend')).toMatchObject({ code: 0 });
  expect(await fire('held', 1, 'waiting')).toMatchObject({ run: 'held/1' });
  await client.schedule.getHandle('held').trigger(ScheduleOverlapPolicy.SKIP);
  await vi.waitUntil(async () => (await statusOf('held'))?.skipped === 1, { timeout: 60_000, interval: 500 });
  const { schedules } = await schedule('list');
  expect(schedules.map((each) => each.schedule)).toEqual(['held', 'nightly']);
  await command('cancel', 'held');
  await vi.waitUntil(async () => (await statusOf('held'))?.firings[0]?.status === 'cancelled', {
    timeout: 100_000,
    interval: 500,
  });
  expect(await schedule('delete', 'held')).toMatchObject({ code: 0 });
  const again = await schedule('delete', 'held');
  expect(again).toMatchObject({ code: 2, errors: [{ code: 'ARGUMENT_INVALID' }] });
  await vi.waitUntil(async () => (await statusOf('held')) === undefined, { timeout: 60_000, interval: 500 });
}, 600_000);

it('starts nothing while someone runs the same spec', async () => {
  const held = nightly.replace('name: nightly', 'name: twice') + syntheticStep('approval: required');
  const file = world().write('twice.yaml', held);
  expect(await create(file, '--spend')).toMatchObject({ code: 0 });
  expect(await command('run', file)).toMatchObject({ code: 6, run: 'twice/1' });
  expect(await fire('twice', 1, 'skipped')).toMatchObject({ run: 'twice/1' });
  expect(listRuns().filter(({ record }) => record.name === 'twice')).toHaveLength(1);
}, 400_000);
