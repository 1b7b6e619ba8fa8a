/** Set-up part: the npm packages, exactly those of the lock file, without running their install scripts. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runQuietly, withProgress } from './commands.mjs';
import { folders, packageRoot } from './folders.mjs';

const readPackages = (file) => JSON.parse(readFileSync(file, 'utf8')).packages;

/** First difference between the lock file and what npm wrote last into node_modules, or null. */
function difference() {
  // npm writes this file when everything else is in place, and `npm ci` begins by removing it.
  const record = join(folders.modules, '.package-lock.json');
  if (!existsSync(record)) return 'not installed';
  const [wanted, installed] = [readPackages(join(packageRoot, 'package-lock.json')), readPackages(record)];
  for (const [path, { version, integrity, optional }] of Object.entries(wanted)) {
    if (path === '') continue;
    const found = installed[path];
    if (found === undefined ? !optional : found.version !== version || found.integrity !== integrity) {
      return `${path.replace(/^.*node_modules\//, '')} ${version} is not installed`;
    }
    if (found !== undefined && !existsSync(join(packageRoot, path, 'package.json'))) return `${path} is missing`;
  }
  return null;
}

export const npmPackages = {
  id: 'npm-packages',
  title: 'npm packages',
  version: () => 'as in package-lock.json',
  downloadMegabytes: 370,
  diskMegabytes: 1460,
  needs: {},

  async check() {
    const found = difference();
    return { ready: found === null, detail: found ?? 'installed' };
  },

  async install(lock) {
    const parameters = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
    // Under `npm run`, the npm that runs us is the one to use.
    const npm = process.env.npm_execpath;
    const [command, before] = npm?.endsWith('.js') ? [process.execPath, [npm]] : ['npm', []];
    await withProgress('npm packages', () =>
      runQuietly(command, [...before, ...parameters], {
        log: 'npm',
        lock,
        hint: 'Check that npm reaches its registry (npm ping), then run the same command again.',
      }),
    );
  },
};
