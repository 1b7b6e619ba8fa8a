/** @file What the last bits of a step's sums depend on beside its state and node: the machine, and this program. */

import { machine } from '../learning/machine.ts';
import { sourceDigest } from '../tracking/source-digest.ts';

/** Another machine, and other code, may sum otherwise: noise is derived from this too, so that it is drawn anew then. */
export const computation = (): string =>
  JSON.stringify({ machine: machine(), program: sourceDigest(['activities', 'datasets', 'learning', 'privacy']) });
