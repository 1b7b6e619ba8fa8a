/** Test process: makes sure that Temporal runs and prints its address. */

import { ensureTemporal } from '../../stack/services.ts';

console.log((await ensureTemporal()).address);
