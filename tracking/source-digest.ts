/** @file Which code this is: a digest over source files, so that a worker of older code is told apart. */

import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
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

/** sha256, hex, over names and contents of the TypeScript files of the given folders of the package, and its lists of dependencies. */
export function sourceDigest(folders: readonly string[] = layers, root = packageRoot): string {
  const hash = createHash('sha256');
  for (const file of ['package.json', 'package-lock.json']) {
    const path = join(root, file);
    // An installed package has no lock file.
    if (existsSync(path)) hash.update(`\n${file}\n`).update(readFileSync(path));
  }
  for (const folder of folders) {
    const files = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' });
    for (const file of files.filter((name) => name.endsWith('.ts')).sort()) {
      hash.update(`\n${folder}/${file}\n`).update(readFileSync(join(root, folder, file)));
    }
  }
  return hash.digest('hex');
}
