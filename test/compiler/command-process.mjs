/** @file The command `epsilonflow` with the same arguments; it prints its peak memory, KiB, on stderr at its end. */

import { readFileSync } from 'node:fs';

process.on('exit', () => {
  process.stderr.write(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
});
await import('../../cli/epsilonflow.mjs');
