/** @file The line of the user's code that an op or a refusal comes from. */

import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const ownFolder = fileURLToPath(new URL('.', import.meta.url));
const frame = /\(?((?:file:\/\/)?\/[^()]+):(\d+):\d+\)?$/;

/** tfjs puts a dozen frames between an op and the line that asks for it, more in gradients. */
export const framesNeeded = 100;

/** `path:line` of the innermost frame outside this library and tfjs, or undefined. */
export function placeOf(trace: Error): string | undefined {
  for (const line of (trace.stack ?? '').split('\n').slice(1)) {
    const match = frame.exec(line.trim());
    if (!match) continue;
    const [, url, number] = match as unknown as [string, string, string];
    const path = url.startsWith('file://') ? fileURLToPath(url) : url;
    if (path.includes('/node_modules/') || path.startsWith(ownFolder)) continue;
    const near = relative(process.cwd(), path);
    return `${near.startsWith('..') ? path : near}:${number}`;
  }
  return undefined;
}
