/** @file Program of the thread that reads a dataset for its digest: see `digest-here.ts`. */

import { parentPort, workerData } from 'node:worker_threads';

import { faultOf } from '../activities/errors.ts';
import { readDigested } from '../datasets/index.ts';
import type { DigestReply, DigestRequest } from './digest-here.ts';

async function answer({ dataset, secret }: DigestRequest): Promise<DigestReply> {
  try {
    return { digest: (await readDigested(dataset, Buffer.from(secret))).digest };
  } catch (error) {
    return { fault: faultOf(error) };
  }
}

void answer((workerData as { request: DigestRequest }).request).then((reply) => parentPort!.postMessage(reply));
