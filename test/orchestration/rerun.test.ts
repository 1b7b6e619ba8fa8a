import { expect, it } from 'vitest';
import { openStore } from '../../store/index.ts';
import { epsilonflowJson, generatorStep, specHead, syntheticStep } from './tiny-experiment.ts';
import { experimentsCharged, worldOfTests } from './world-of-tests.ts';

const spec = `${specHead('twice')}
steps:
${generatorStep({ steps: 2 })}${syntheticStep()}`;

interface Outcome {
  run: string;
  planDigest: string;
  counts: Record<string, number>;
  mismatches: object[];
  errors: object[];
}

const world = worldOfTests();

const command = (...args: string[]): ReturnType<typeof epsilonflowJson<Outcome>> => epsilonflowJson(world(), ...args);

const committed = async (): Promise<number[]> => (await experimentsCharged()).map(({ entries }) => entries.committed);

const keysOf = async ({ planDigest }: Outcome): Promise<string[]> =>
  (await openStore().loadPlan(planDigest)).nodes.map(({ key }) => key);

it('makes new results of a step beside the old ones, for nothing where nothing private runs again', async () => {
  const first = await command('run', world().write('twice.yaml', spec));
  expect(first).toMatchObject({ code: 0, run: 'twice/1', counts: { completed: 2, reused: 0 } });
  const unknown = await command('rerun', 'twice', '--from', 'nothing');
  expect(unknown).toMatchObject({ code: 2, errors: [{ code: 'ARGUMENT_INVALID' }] });

  const second = await command('rerun', 'twice', '--from', 'synthetic');
  expect(second).toMatchObject({ code: 0, run: 'twice/2', counts: { completed: 2, reused: 1 } });
  expect(await committed()).toEqual([1]);
  const [generator, synthetic] = await keysOf(first);
  const [sameGenerator, newSynthetic] = await keysOf(second);
  expect(sameGenerator).toBe(generator);
  expect(newSynthetic).not.toBe(synthetic);
}, 300_000);

it('charges a private step that runs again when the cost is agreed to', async () => {
  const refused = await command('rerun', 'twice/2', '--from', 'generator');
  expect(refused).toMatchObject({ code: 3, errors: [{ code: 'SPENDING_UNCONFIRMED' }] });
  expect(refused.stderr).toMatch(/weather: 1 entry, the account goes from epsilon [\d.]+ to epsilon [\d.]+/);
  const agreed = await command('rerun', 'twice/2', '--from', 'generator', '--spend');
  expect(agreed).toMatchObject({ code: 0, run: 'twice/3', counts: { completed: 2, reused: 0 } });
  expect(await committed()).toEqual([1, 1]);
  expect(await command('verify', 'twice/3')).toMatchObject({ code: 0, mismatches: [] });

  // The spec still names the first results.
  const plain = await command('run', world().write('twice.yaml', spec));
  expect(plain).toMatchObject({ code: 0, run: 'twice/4', counts: { completed: 2, reused: 2 } });
}, 300_000);
