import { expect, it, vi } from 'vitest';
import { openLedger } from '../../privacy/ledger/index.ts';
import { ledgerUrl } from '../../stack/paths.ts';
import { readEvents } from '../../tracking/events.ts';
import {
  epsilonflowJson,
  generatorStep,
  jobProcesses,
  processorTimeDuring,
  specHead,
  syntheticStep,
} from './tiny-experiment.ts';
import { worldOfTests } from './world-of-tests.ts';

const steps = 300;

const spec = (name: string, seed: number): string => `${specHead(name, { epsilon: 50 })}
steps:
${generatorStep({ steps, batch: 120, seed })}${syntheticStep()}`;

interface Outcome {
  run: string;
  status: string;
  directory: string;
  counts: Record<string, number>;
  paused: boolean;
  resumed: boolean;
  errors: object[];
}

const world = worldOfTests();

const command = (...args: string[]): ReturnType<typeof epsilonflowJson<Outcome>> => epsilonflowJson(world(), ...args);

const trainedSteps = (directory: string): number[] =>
  readEvents(directory).events.flatMap((event) => (event.type === 'metric' ? [event.step] : []));

it('frees the processor, keeps what is reserved, and goes on from the checkpoint without a second charge', async () => {
  const { directory } = await command('run', world().write('held.yaml', spec('held', 1)), '--detach');
  await vi.waitUntil(() => trainedSteps(directory).length > 2, { timeout: 400_000, interval: 50 });

  const seconds = await processorTimeDuring(world(), async () => {
    expect(await command('pause', 'held')).toMatchObject({ code: 0, run: 'held/1', paused: true });
  });
  expect(jobProcesses(world())).toEqual([]);
  expect(seconds).toBeLessThan(10);
  expect(await command('status', 'held')).toMatchObject({ status: 'paused', counts: { running: 0 } });
  const before = trainedSteps(directory);
  expect(before.length).toBeLessThan(steps);
  const ledger = await openLedger(ledgerUrl());
  const begun = { reserved: 0, begun: 1, committed: 0, released: 0 };
  expect((await ledger.accountSummary('weather'))!.experiments.map(({ entries }) => entries)).toEqual([begun]);
  const { total } = (await ledger.accountSummary('weather'))!;

  expect(await command('resume', 'held')).toMatchObject({ code: 0, run: 'held/1', resumed: true });
  const hasEnded = (): boolean => readEvents(directory).events.some(({ type }) => type === 'run-completed');
  await vi.waitUntil(hasEnded, { timeout: 400_000, interval: 50 });
  expect(await command('status', 'held')).toMatchObject({ status: 'completed' });
  const account = (await ledger.accountSummary('weather'))!;
  expect(account.experiments.map(({ entries }) => entries)).toEqual([{ ...begun, begun: 0, committed: 1 }]);
  expect(account.total).toBe(total);
  await ledger.verify();
  await ledger.close();
  // No step was trained twice.
  expect(trainedSteps(directory)).toEqual(Array.from({ length: steps }, (_, step) => step + 1));
  const { events } = readEvents(directory);
  const starts = events.flatMap((event) => (event.type === 'node-started' ? [[event.node, event.attempt]] : []));
  expect(starts).toEqual([
    ['generator', 1],
    ['generator', 2],
    ['synthetic', 1],
  ]);
  expect(events.filter(({ type }) => type === 'run-paused' || type === 'run-resumed')).toHaveLength(2);
  expect(await command('pause', 'held')).toMatchObject({ code: 2, errors: [{ code: 'ARGUMENT_INVALID' }] });
}, 900_000);

it('ends a step that does not answer when its run is cancelled', async () => {
  const { directory } = await command('run', world().write('deaf.yaml', spec('deaf', 2)), '--detach');
  await vi.waitUntil(() => trainedSteps(directory).length > 2, { timeout: 400_000, interval: 50 });
  for (const pid of jobProcesses(world())) process.kill(pid, 'SIGSTOP');

  expect(await epsilonflowJson(world(), 'cancel', 'deaf')).toMatchObject({ code: 0, run: 'deaf/1', cancelled: true });
  expect(jobProcesses(world())).toEqual([]);
  expect(await command('status', 'deaf')).toMatchObject({ status: 'cancelled', counts: { cancelled: 1, skipped: 1 } });
}, 900_000);
