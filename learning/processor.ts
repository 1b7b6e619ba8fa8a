/** @file The processor of this machine, by what compiled code for it depends on. */

import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';

/** Name and instruction sets of the processor. */
export function processor(): string {
  const flags = /^flags\s*:.*$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[0] ?? '';
  return `${cpus()[0]?.model}\n${flags}`;
}
