/**
 * What TensorFlow computes on: the only place that decides. It follows from it which library is installed and linked.
 *
 * `EPSILONFLOW_DEVICE=cpu|gpu` says so; otherwise an NVIDIA card with its driver is used when there is one.
 */

import { existsSync } from 'node:fs';
import { SetupFailure } from './failure.mjs';

/** Made by NVIDIA's kernel driver. */
const driver = '/proc/driver/nvidia/version';

const asked = process.env.EPSILONFLOW_DEVICE || null;

/** @type {'cpu' | 'gpu'} */
export const device = asked === 'gpu' || (asked === null && existsSync(driver)) ? 'gpu' : 'cpu';

/** @throws SetupFailure for a device that is not known */
export function checkDevice() {
  if (asked === null || asked === device) return;
  throw new SetupFailure(`EPSILONFLOW_DEVICE is "${asked}"`, 'Set it to cpu or gpu, or leave it out.');
}
