import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { whileSharing } from '../../activities/checkpoint-sharing.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { ObjectStorage } from '../../store/objects.ts';
import { SharedCheckpoints } from '../../store/shared-checkpoints.ts';
import { startObjectServer, type ObjectServer } from '../object-server.ts';
import { requires } from '../requires.ts';

describe.runIf(requires('object-storage', 'a store that takes no checkpoint'))(
  'a checkpoint that can not be sent',
  () => {
    let server: ObjectServer;
    let root: string;
    let environment: NodeJS.ProcessEnv;

    beforeAll(async () => {
      environment = { ...process.env };
      server = await startObjectServer();
      root = mkdtempSync(join(tmpdir(), 'unsent '));
      Object.assign(process.env, server.environment, {
        EPSILONFLOW_RUN_SECRET: 'a secret that hosts of this test share',
      });
    });
    afterAll(async () => {
      process.env = environment;
      await server?.remove();
      rmSync(root, { recursive: true, force: true });
    });

    async function makeBucket(name: string): Promise<void> {
      const client = new S3Client({ endpoint: server.environment['AWS_ENDPOINT_URL_S3']!, forcePathStyle: true });
      await client.send(new CreateBucketCommand({ Bucket: name }));
      client.destroy();
    }

    it('is told once, does not stop the step, and is sent as soon as the store takes it', async () => {
      const checkpointDirectory = join(root, 'step', 'checkpoints');
      mkdirSync(checkpointDirectory, { recursive: true });
      const work = { id: 'step', directory: dirname(checkpointDirectory), checkpointDirectory, noiseKeyFile: '' };
      const objects = new ObjectStorage('s3://not-there-yet/lab');
      const told: (string | null)[] = [];
      const next = async (): Promise<void> => {
        const before = told.length;
        for (let tries = 0; told.length === before && tries < 600; tries += 1) {
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      };
      const hooks = {
        told: (failure: unknown) => void told.push(failure instanceof EpsilonflowError ? failure.code : null),
      };
      await whileSharing(new SharedCheckpoints(objects), work, null, hooks, async () => {
        // What is there at the start goes with the next one.
        await new Promise((resolve) => setTimeout(resolve, 100));
        writeFileSync(join(checkpointDirectory, 'training.safetensors'), 'step 10');
        await next();
        writeFileSync(join(checkpointDirectory, 'training.safetensors'), 'step 20');
        await new Promise((resolve) => setTimeout(resolve, 1_500));
        expect(told).toEqual(['STORE_REFUSED']);
        await makeBucket('not-there-yet');
        await next();
      });
      expect(told).toEqual(['STORE_REFUSED', null]);
      const there = join(root, 'there', 'checkpoints');
      expect(
        await new SharedCheckpoints(objects).restore({
          id: 'step',
          directory: dirname(there),
          checkpointDirectory: there,
        }),
      ).toEqual({});
    });
  },
);
