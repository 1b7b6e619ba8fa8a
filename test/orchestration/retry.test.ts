import { expect, it, vi } from 'vitest';
import { epsilonflowJson, generatorStep, jobProcesses, specHead, syntheticStep } from './tiny-experiment.ts';
import { experimentsCharged, worldOfTests } from './world-of-tests.ts';

/** Of two private instances one fails: the base model's context is 64 tokens. */
const spec = `${specHead('partly')}
matrix:
  sequence: [32, 96]
steps:
${generatorStep({ steps: 2, sequence: '"${{ matrix.sequence }}"' })}${syntheticStep()}`;

interface Outcome {
  run: string;
  status: string;
  counts: Record<string, number>;
  failures: object[];
  errors: object[];
}

const world = worldOfTests();

const command = (...args: string[]): ReturnType<typeof epsilonflowJson<Outcome>> => epsilonflowJson(world(), ...args);

const entries = async (): Promise<object[]> => (await experimentsCharged()).map((experiment) => experiment.entries);

it('runs what failed or was skipped again when the cost is agreed to, and reuses the rest', async () => {
  const file = world().write('partly.yaml', spec);
  expect(await command('run', file)).toMatchObject({ code: 1, counts: { completed: 2, failed: 1, skipped: 1 } });
  const first = { reserved: 0, begun: 1, committed: 1, released: 0 };
  expect(await entries()).toEqual([first]);

  const refused = await command('retry', 'partly/1');
  expect(refused).toMatchObject({ code: 3, errors: [{ code: 'SPENDING_UNCONFIRMED' }] });
  expect(refused.stderr).toMatch(/weather: 1 entry, the account goes from epsilon [\d.]+ to epsilon [\d.]+/);
  expect(await entries()).toEqual([first]);

  const retried = await command('retry', 'partly/1', '--spend');
  expect(retried).toMatchObject({
    code: 1,
    run: 'partly/2',
    counts: { completed: 2, reused: 2, failed: 1, skipped: 1 },
  });
  expect(retried.failures).toMatchObject([{ node: 'generator[sequence=96]', code: 'MODEL_UNFIT' }]);
  const second = { reserved: 0, begun: 1, committed: 0, released: 0 };
  const both = await entries();
  expect(both).toHaveLength(2);
  expect(both).toEqual(expect.arrayContaining([first, second]));
}, 240_000);

it('refuses an edited spec, and has nothing to do for a complete run', async () => {
  const file = world().write('whole.yaml', spec.replace('[32, 96]', '[32]').replace('name: partly', 'name: whole'));
  expect(await command('run', file)).toMatchObject({ code: 0, counts: { completed: 2 } });
  expect(await command('retry', 'whole')).toMatchObject({ code: 0, run: 'whole/1', retried: false });
  world().write('partly.yaml', spec.replace('steps: 2', 'steps: 3'));
  const edited = await command('retry', 'partly/1', '--spend');
  expect(edited).toMatchObject({ code: 2, errors: [{ code: 'ARGUMENT_INVALID' }] });
}, 120_000);

it('refuses a run that is under way, and finishes one that was cancelled', async () => {
  const changes = { '[32, 96]': '[32]', 'name: partly': 'name: long', 'steps: 2': 'steps: 100' };
  const text = Object.entries(changes).reduce((all, [from, to]) => all.replace(from, to), spec);
  const file = world().write('long.yaml', text);
  await command('run', file, '--detach');
  await vi.waitUntil(() => jobProcesses(world()).length > 0, { timeout: 60_000, interval: 50 });
  expect(await command('retry', 'long', '--spend')).toMatchObject({ code: 2, errors: [{ code: 'ARGUMENT_INVALID' }] });
  await command('cancel', 'long');
  await vi.waitUntil(async () => (await command('status', 'long')).status === 'cancelled', { timeout: 60_000 });
  const retried = await command('retry', 'long/1', '--spend');
  expect(retried).toMatchObject({ code: 0, run: 'long/2', counts: { completed: 2, failed: 0 } });
}, 240_000);
