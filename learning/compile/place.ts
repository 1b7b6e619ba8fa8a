/** @file The line of the user's code that an op or a refusal comes from. */

import { existsSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const ownFolder = fileURLToPath(new URL('.', import.meta.url));
const frame = /\(?((?:file:\/\/)?\/[^()]+):(\d+):\d+\)?$/;

/** tfjs puts a dozen frames between an op and the line that asks for it, more in gradients. */
export const framesNeeded = 100;

/** tfjs' source maps name files that aren't delivered. */
const isForeign = (path: string): boolean =>
  path.includes('/node_modules/') || path.startsWith(ownFolder) || !existsSync(path);

/** `path:line` of the innermost frame outside this library and tfjs, or undefined. */
export function placeOf(trace: Error): string | undefined {
  for (const line of (trace.stack ?? '').split('\n').slice(1)) {
    const match = frame.exec(line.trim());
    if (!match) continue;
    const [, url, number] = match as unknown as [string, string, string];
    const path = url.startsWith('file://') ? fileURLToPath(url) : url;
    if (isForeign(path)) continue;
    const near = relative(process.cwd(), path);
    return `${near.startsWith('..') ? path : near}:${number}`;
  }
  return undefined;
}
