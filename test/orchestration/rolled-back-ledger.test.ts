import { cpSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readProgress } from '../../activities/live-progress.ts';
import { headOf } from '../../privacy/ledger/index.ts';
import { statePaths } from '../../stack/paths.ts';
import { openUnchecked } from '../../stack/project-ledger.ts';
import { ensureMlflow, ensureTemporal, stopServices } from '../../stack/services.ts';
import { stopWorker } from '../../stack/worker-process.ts';
import { epsilonflow, epsilonflowJson, generatorStep, openTinyWorld, type TinyWorld } from './tiny-experiment.ts';

const spec = (name: string, seed: number, steps: number): string => `
version: 1
name: ${name}
datasets:
  weather:
    files: { train: train.jsonl }
    text: text
    label: { column: label, values: [cold, warm] }
    sensitivity: private
    privacy: { unit: record, size: 300, budget: { epsilon: 1000 } }
models:
  base: { path: base }
steps:
${generatorStep({ steps, seed })}
`;

interface Printed {
  status: string;
  directory: string;
  errors: { code: string; message: string; hint: string }[];
  problems: { problem: string; expected: { source: string } }[];
  unasked: string[];
}

let world: TinyWorld;

function set(variables: Record<string, string>): void {
  Object.assign(process.env, variables);
  Object.assign(world.environment, variables);
}

beforeAll(async () => {
  world = await openTinyWorld({ train: 300, withModel: true });
  set({ EPSILONFLOW_LEDGER_URL: `sqlite:${join(world.folder, 'ledger', 'ledger.db')}` });
  for (const environment of [process.env, world.environment]) delete environment['MLFLOW_TRACKING_URI'];
  await (await openUnchecked()).close();
});

afterAll(async () => {
  await stopWorker();
  // The servers were started from the first state folder.
  set({ EPSILONFLOW_HOME: join(world.folder, 'home') });
  await stopServices();
  world.remove();
});

const command = (...args: string[]): ReturnType<typeof epsilonflowJson<Printed>> => epsilonflowJson(world, ...args);

const ledgerFolder = (): string => join(world.folder, 'ledger');

function copyLedger(name: string): string {
  const copy = join(world.folder, name);
  cpSync(ledgerFolder(), copy, { recursive: true });
  return copy;
}

/** At once, so that no moment is without a ledger. */
function restore(copy: string): void {
  const [next, gone] = [`${ledgerFolder()}-next`, `${ledgerFolder()}-gone`];
  cpSync(copy, next, { recursive: true });
  renameSync(ledgerFolder(), gone);
  renameSync(next, ledgerFolder());
  rmSync(gone, { recursive: true });
}

describe('an older copy of the ledger in the place of a newer one', () => {
  it('is refused after the run state is lost, by Temporal and tracker, until someone acknowledges it', async () => {
    expect(await command('run', world.write('first.yaml', spec('first', 1, 4)))).toMatchObject({ code: 0 });
    const copy = copyLedger('copy');
    expect(await command('run', world.write('second.yaml', spec('second', 2, 4)))).toMatchObject({ code: 0 });
    const newest = copyLedger('newest');
    await stopWorker();
    const [temporal, mlflow] = [await ensureTemporal(), (await ensureMlflow())!];
    const services = { TEMPORAL_ADDRESS: temporal.address, MLFLOW_TRACKING_URI: mlflow.uri };
    set({ ...services, EPSILONFLOW_HOME: join(world.folder, 'another home') });
    restore(copy);

    const third = world.write('third.yaml', spec('third', 3, 4));
    const refused = await command('run', third);
    expect(refused).toMatchObject({ code: 3, errors: [{ code: 'LEDGER_ROLLED_BACK' }] });
    expect(refused.errors[0]!.message).toMatch(
      /lacks row \d+, which Temporal's history of second\/1-[0-9a-f]{8}(\/generator)? names/,
    );
    expect(refused.errors[0]!.hint).toContain('epsilonflow ledger acknowledge');
    const { problems } = await command('ledger', 'show');
    expect(problems.map(({ problem }) => problem)).toContain('rolled-back');

    // Each of them tells it alone.
    set({ TEMPORAL_ADDRESS: '127.0.0.1:9' });
    const byTracker = await command('ledger', 'verify');
    expect(byTracker).toMatchObject({ code: 3, errors: [{ code: 'LEDGER_ROLLED_BACK' }] });
    expect(byTracker.errors[0]!.message).toContain('which the MLflow run second/1 names');
    set({ ...services, MLFLOW_TRACKING_URI: 'http://127.0.0.1:9' });
    expect(await command('ledger', 'verify')).toMatchObject({ code: 3, errors: [{ code: 'LEDGER_ROLLED_BACK' }] });
    set(services);

    // Put back, it is whole; who can't be asked is told.
    restore(newest);
    expect(await command('ledger', 'verify')).toMatchObject({ code: 0, unasked: [] });
    set({ MLFLOW_TRACKING_URI: 'http://127.0.0.1:9' });
    expect(await command('ledger', 'verify')).toMatchObject({
      code: 0,
      unasked: [expect.stringContaining('not compared with what the tracker remembers') as string],
    });
    set(services);
    restore(copy);
    rmSync(statePaths.ledgerHeads(), { force: true });

    const acknowledged = await epsilonflow(world, 'ledger', 'acknowledge', '--reason', 'the disk is lost');
    expect(acknowledged.stdout).toMatch(/^Acknowledged: row \d+, which .* names, is not in this ledger/);
    const { losses } = await summary();
    expect(losses).toMatchObject([{ problem: 'rolled-back', reason: 'the disk is lost' }]);
    expect(await command('ledger', 'verify')).toMatchObject({ code: 0 });
    expect(await command('run', third)).toMatchObject({ code: 0, status: 'completed' });
  }, 600_000);

  it('is refused by the run that is under way, which ends', async () => {
    const copy = copyLedger('idle');
    const run = command('run', world.write('long.yaml', spec('long', 6, 5000)));
    const directory = statePaths.run('long', 1);
    const trains = (): boolean => readProgress(directory).some(({ phase, done }) => phase === 'train' && done > 1);
    for (const deadline = Date.now() + 240_000; !trains(); await sleep(50)) expect(Date.now()).toBeLessThan(deadline);
    restore(copy);
    rmSync(statePaths.ledgerHeads());
    const { code, errors, status } = await run;
    expect({ code, status }).toEqual({ code: 3, status: 'failed' });
    expect(errors).toMatchObject([
      {
        code: 'LEDGER_ROLLED_BACK',
        message: expect.stringContaining('which an earlier activity of this run names') as string,
      },
    ]);
    // Nothing was written to the copy.
    const ledger = await openUnchecked();
    const told = JSON.parse(readFileSync(join(directory, 'ledger-head.json'), 'utf8')) as { sequence: number };
    expect((await headOf(ledger)).sequence).toBeLessThan(told.sequence);
    await ledger.close();
  }, 600_000);
});

async function summary(): Promise<{ losses: object[] }> {
  const { accounts } = (await command('ledger', 'show')) as unknown as { accounts: { losses: object[] }[] };
  return accounts[0]!;
}
