/**
 * @file The digest of a dataset of this host, read in a thread of its own: a worker must answer for its jobs meanwhile,
 * and what was read goes with the thread.
 */

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';

import { errorOf } from '../activities/errors.ts';
import type { JobFault } from '../activities/job-messages.ts';
import type { PlanDataset } from '../schemas/plan.ts';

export interface DigestRequest {
  dataset: PlanDataset;
  secret: Uint8Array;
}
export type DigestReply = { digest: string } | { fault: JobFault };

/** Loaders that a process has set up do not hold for its threads. */
const bootstrap = `
  const { loader, program } = require('node:worker_threads').workerData;
  require(loader).require(program, program);
`;
const loader = createRequire(import.meta.url).resolve('tsx/cjs/api');
const program = fileURLToPath(new URL('./digest-thread.ts', import.meta.url));

/** @throws what `readDigested` throws; Error when the thread ends without an answer */
export async function digestHere(dataset: PlanDataset, secret: Uint8Array): Promise<string> {
  const request: DigestRequest = { dataset, secret };
  const thread = new Worker(bootstrap, { eval: true, execArgv: [], env: {}, workerData: { loader, program, request } });
  // A worker that ends waits for no answer.
  thread.unref();
  const reply = await new Promise<DigestReply>((resolve, reject) => {
    thread.once('message', resolve);
    thread.once('error', reject);
    thread.once('exit', () => reject(new Error('The thread that reads the dataset ended.')));
  });
  if ('fault' in reply) throw errorOf(reply.fault);
  return reply.digest;
}
