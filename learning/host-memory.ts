/**
 * @file Arrays that JavaScript let go lie in memory until it next collects garbage, which it does late where they are
 * few and large. A step must keep to the memory that it was given, so it says what it let go, and that is collected
 * before it is much.
 */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const mostBytes = 64 * 2 ** 20;

/** Smaller ones are collected soon enough. */
const leastArray = 2 ** 20;

let collect: (() => void) | null = null;
let bytes = 0;

function collector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

/** Says that an array is no longer reachable. @param size bytes of it */
export function letGo(size: number): void {
  if (size < leastArray) return;
  bytes += size;
  if (bytes < mostBytes) return;
  collect ??= collector();
  collect();
  bytes = 0;
}
