import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ObjectStorage } from '../../store/objects.ts';
import { SharedCheckpoints, type CheckpointFolder } from '../../store/shared-checkpoints.ts';
import { startObjectServer, type ObjectServer } from '../object-server.ts';
import { requires } from '../requires.ts';

describe.runIf(requires('object-storage', 'checkpoints that hosts share'))('checkpoints that hosts share', () => {
  let server: ObjectServer;
  let root: string;
  let objects: ObjectStorage;
  let checkpoints: SharedCheckpoints;
  let [here, there]: CheckpointFolder[] = [];
  let environment: NodeJS.ProcessEnv;
  const allow = (): Promise<void> => Promise.resolve();

  function folder(name: string): CheckpointFolder {
    const directory = join(root, name);
    mkdirSync(join(directory, 'checkpoints'), { recursive: true });
    return { id: 'step-of-a-run', directory, checkpointDirectory: join(directory, 'checkpoints') };
  }

  const write = ({ checkpointDirectory }: CheckpointFolder, text: string): void =>
    writeFileSync(join(checkpointDirectory, 'training.safetensors'), text);

  function read({ checkpointDirectory }: CheckpointFolder): string | null {
    const file = join(checkpointDirectory, 'training.safetensors');
    return existsSync(file) ? readFileSync(file, 'utf8') : null;
  }

  beforeAll(async () => (server = await startObjectServer()));
  afterAll(() => server?.remove());
  beforeEach(async () => {
    environment = { ...process.env };
    root = await mkdtemp(join(tmpdir(), 'shared checkpoints '));
    const secret = { EPSILONFLOW_RUN_SECRET: 'a secret that the workers of this test share' };
    Object.assign(process.env, server.environment, secret);
    objects = new ObjectStorage(`s3://results/test-${Math.random().toString(36).slice(2)}`);
    checkpoints = new SharedCheckpoints(objects);
    [here, there] = [folder('here'), folder('there')];
  });
  afterEach(async () => {
    process.env = environment;
    await rm(root, { recursive: true, force: true });
  });

  it('are sealed, and another host goes on from the newest', async () => {
    write(here!, 'planted, step 10');
    await checkpoints.save(here!, 'one', { entry: 10 }, allow);
    write(here!, 'planted, step 20');
    await checkpoints.save(here!, 'one', { entry: 20 }, allow);
    const listed = await objects.list('');
    expect(listed).toHaveLength(2);
    for (const { name } of listed) expect((await objects.get(name))!.content.includes('planted')).toBe(false);
    expect(await checkpoints.restore(there!)).toEqual({ entry: 20 });
    expect(read(there!)).toBe('planted, step 20');
  });

  it('do not replace what the same host has itself', async () => {
    write(here!, 'step 10');
    await checkpoints.save(here!, 'one', {}, allow);
    write(here!, 'step 20, not yet sent');
    expect(await checkpoints.restore(here!)).toBeNull();
    expect(read(here!)).toBe('step 20, not yet sent');
  });

  it('of an attempt that was fenced off stay unseen', async () => {
    write(here!, 'step 10');
    const refuse = (): Promise<void> => Promise.reject(new Error('fenced'));
    await expect(checkpoints.save(here!, 'one', {}, refuse)).rejects.toThrow('fenced');
    expect(await checkpoints.restore(there!)).toBeNull();
    expect(read(there!)).toBeNull();
  });

  it('that are altered count as none: an earlier attempt has another', async () => {
    write(here!, 'step 10');
    await checkpoints.save(here!, 'one', {}, allow);
    write(there!, 'step 20');
    await checkpoints.save(there!, 'two', {}, allow);
    const newer = (await objects.list('checkpoints/step-of-a-run/attempts/two'))[0]!.name;
    await objects.put(newer, Buffer.concat([(await objects.get(newer))!.content, Buffer.from('x')]));
    const third = folder('third');
    expect(await checkpoints.restore(third)).toEqual({});
    expect(read(third)).toBe('step 10');
  });

  it('may be folders, and are dropped with their step', async () => {
    mkdirSync(join(here!.checkpointDirectory, 'step-4'));
    writeFileSync(join(here!.checkpointDirectory, 'step-4', 'state'), 'state');
    mkdirSync(join(here!.checkpointDirectory, 'step-8.7.draft'));
    await checkpoints.save(here!, 'one', {}, allow);
    expect(await checkpoints.restore(there!)).toEqual({});
    expect(readFileSync(join(there!.checkpointDirectory, 'step-4', 'state'), 'utf8')).toBe('state');
    expect(existsSync(join(there!.checkpointDirectory, 'step-8.7.draft'))).toBe(false);
    await checkpoints.drop('step-of-a-run');
    expect(await objects.list('')).toEqual([]);
  });
});
