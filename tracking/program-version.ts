/** @file The version of this program, as what it makes names it. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { packageRoot } from '../stack/paths.ts';

/** That of package.json. */
export const programVersion = (): string =>
  (JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string }).version;
