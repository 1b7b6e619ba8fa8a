/** Test process: takes the lock, then counts in a file in a way that only works when it is alone. */

import { readFileSync, writeFileSync } from 'node:fs';
import { acquireLock } from '../../stack/setup/lock.mjs';

const [lockFile, counterFile, rounds] = process.argv.slice(2) as [string, string, string];

for (let round = 0; round < Number(rounds); round++) {
  const lock = await acquireLock(lockFile, { purpose: 'counting', pollMs: 5 });
  const before = Number(readFileSync(counterFile, 'utf8'));
  await new Promise((resolve) => setTimeout(resolve, 3));
  writeFileSync(counterFile, String(before + 1));
  lock.release();
}
