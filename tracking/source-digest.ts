/** @file Which code this is: a digest over source files, so that a worker of older code is told apart. */

import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../stack/paths.ts';

const layers = [
  'schemas',
  'privacy',
  'measures',
  'datasets',
  'learning',
  'compiler',
  'store',
  'tracking',
  'activities',
  'workflows',
  'stack',
];

/** sha256, hex, over names and contents of the TypeScript files of the given folders of the package, and its lock file. */
export function sourceDigest(folders: readonly string[] = layers): string {
  const hash = createHash('sha256').update(readFileSync(join(packageRoot, 'package.json')));
  for (const folder of folders) {
    const files = readdirSync(join(packageRoot, folder), { recursive: true, encoding: 'utf8' });
    for (const file of files.filter((name) => name.endsWith('.ts')).sort()) {
      hash.update(`\n${folder}/${file}\n`).update(readFileSync(join(packageRoot, folder, file)));
    }
  }
  return hash.digest('hex');
}
