/** @file Main program of the process in which a worker compiles the spec of a schedule that fires. */

import type { FiringReply, FiringRequest } from '../activities/scheduled-run.ts';
import { faultOfFiring, prepareFiring } from './prepare-firing.ts';

async function answer({ spec, firing }: FiringRequest): Promise<void> {
  let reply: FiringReply;
  try {
    reply = { prepared: await prepareFiring(spec, firing) };
  } catch (error) {
    // The log lies in the private store; of what goes to the worker only a part leaves.
    console.error(new Date().toISOString(), firing, error);
    reply = { fault: faultOfFiring(error) };
  }
  process.send!(reply, () => process.exit(0));
}

if (!process.send) {
  console.error('This program is started by a worker of Epsilonflow: run `epsilonflow worker`.');
  process.exit(2);
}
// Never outlives its worker.
process.on('disconnect', () => process.exit(1));
// Ctrl-C in the worker's terminal reaches the whole process group; the worker decides what becomes of its processes.
process.on('SIGINT', () => undefined);
process.once('message', (request: FiringRequest) => void answer(request));
