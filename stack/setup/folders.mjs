/** Folders and environment of set-up. Everything that is written lies below the clone. */

import { mkdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { device } from './device.mjs';

export const packageRoot = resolve(dirname(fileURLToPath(import.meta.url)), '..', '..');
export const partsRoot = join(packageRoot, '.epsilonflow');

export const versions = JSON.parse(readFileSync(join(packageRoot, 'stack', 'versions.json'), 'utf8'));

/** The TensorFlow library that is installed and linked. */
export const tensorflow = { ...versions.tensorflow, ...versions.tensorflow[device] };

export const folders = {
  python: join(partsRoot, 'python'),
  tensorflow: join(partsRoot, 'tensorflow', device === 'cpu' ? tensorflow.version : `${tensorflow.version}-${device}`),
  binding: join(partsRoot, 'binding'),
  data: join(partsRoot, 'data'),
  tmp: join(partsRoot, 'tmp'),
  /** Temporary files of set-up itself: emptied whenever one starts. */
  setupTmp: join(partsRoot, 'tmp', 'setup'),
  cache: join(partsRoot, 'cache'),
  logs: join(partsRoot, 'logs'),
  modules: join(packageRoot, 'node_modules'),
};

/** Environment for every command that set-up starts: temporary files and caches stay inside the clone. */
export function childEnvironment(temporary = folders.tmp) {
  mkdirSync(temporary, { recursive: true });
  return {
    ...process.env,
    TMPDIR: temporary,
    XDG_CACHE_HOME: folders.cache,
    XDG_CONFIG_HOME: join(folders.cache, 'config'),
    MPLCONFIGDIR: join(folders.cache, 'matplotlib'),
    npm_config_cache: join(folders.cache, 'npm'),
    npm_config_update_notifier: 'false',
    PIP_DISABLE_PIP_VERSION_CHECK: '1',
    PIP_NO_CACHE_DIR: '1',
    PYTHONNOUSERSITE: '1',
  };
}
