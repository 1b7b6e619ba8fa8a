/** @file A real S3-compatible server (versitygw) over a folder of its own. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { partsRoot } from '../stack/paths.ts';
import { freePort } from './postgres-server.ts';

export const toolsFolder = join(partsRoot, 'tools');
export const serverModule = 'github.com/versity/versitygw/cmd/versitygw@v1.8.0';

const built = join(toolsFolder, 'versitygw');
const program = (): string => (existsSync(built) ? built : 'versitygw');

export const hasObjectServer = (): boolean => spawnSync(program(), ['--version'], { stdio: 'ignore' }).status === 0;

export interface ObjectServer {
  /** What processes that use it must see. */
  environment: Record<string, string>;
  /** Where the objects of bucket `results` lie on disk. */
  folder: string;
  /** Ends it and removes its data. */
  remove(): Promise<void>;
}

/** @param address of this machine, on which it listens */
export async function startObjectServer(address = '127.0.0.1'): Promise<ObjectServer> {
  const root = mkdtempSync(join(tmpdir(), 'objects-'));
  mkdirSync(join(root, 'data'));
  const port = await freePort();
  const [user, password] = ['somebody', 'a password of a test'];
  const server = spawn(program(), ['--port', `${address}:${port}`, '--quiet', 'posix', join(root, 'data')], {
    env: { PATH: process.env['PATH'], ROOT_ACCESS_KEY: user, ROOT_SECRET_KEY: password },
    stdio: 'ignore',
  });
  const environment = {
    AWS_ACCESS_KEY_ID: user,
    AWS_SECRET_ACCESS_KEY: password,
    AWS_ENDPOINT_URL_S3: `http://${address}:${port}`,
    AWS_REGION: 'us-east-1',
    AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true',
  };
  await makeBucket(server, environment);
  return {
    environment,
    folder: join(root, 'data', 'results'),
    remove: async () => {
      const ended = once(server, 'exit');
      server.kill('SIGKILL');
      await ended;
      rmSync(root, { recursive: true });
    },
  };
}

async function makeBucket(server: ChildProcess, environment: ObjectServer['environment']): Promise<void> {
  const client = new S3Client({
    region: environment['AWS_REGION']!,
    endpoint: environment['AWS_ENDPOINT_URL_S3']!,
    credentials: {
      accessKeyId: environment['AWS_ACCESS_KEY_ID']!,
      secretAccessKey: environment['AWS_SECRET_ACCESS_KEY']!,
    },
    forcePathStyle: true,
    // It listens a moment after it has started.
    maxAttempts: 12,
  });
  try {
    await client.send(new CreateBucketCommand({ Bucket: 'results' }));
  } catch (error) {
    server.kill('SIGKILL');
    throw error;
  } finally {
    client.destroy();
  }
}
