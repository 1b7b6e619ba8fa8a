/**
 * @file Entry of a fresh clone: sets everything up, then does what was asked. Needs Node alone.
 *
 * node stack/bootstrap.mjs setup | test | check | verify | quickstart | bench NAME | chaos | corpora | cli ...
 */

import { join } from 'node:path';
import { runForeground } from './setup/commands.mjs';
import { SetupFailure } from './setup/failure.mjs';
import { folders } from './setup/folders.mjs';
import { setUp } from './setup/setup.mjs';

// The TypeScript loader would keep its cache in the system's temporary folder: all that is written stays in this one.
process.env.TSX_DISABLE_CACHE ??= '1';

const node = (...parameters) => runForeground(process.execPath, parameters);
const script = (file, ...parameters) => node('--import', 'tsx', file, ...parameters);
const tool = (path, ...parameters) => node(join(folders.modules, path), ...parameters);

const checks = [
  ['format', () => tool('prettier/bin/prettier.cjs', '--check', '--log-level', 'warn', '.')],
  ['lint', () => tool('eslint/bin/eslint.js', '--max-warnings', '0', '.')],
  ['types', () => tool('typescript/bin/tsc', '--noEmit')],
  ['layers', () => tool('dependency-cruiser/bin/dependency-cruise.mjs', '--config', '.dependency-cruiser.cjs', '.')],
  ['unused', () => tool('knip/bin/knip.js')],
];

/** Runs all checks, also after one has failed; exit code 1 when any did. */
async function check() {
  const failed = [];
  for (const [name, run] of checks) {
    const started = Date.now();
    const code = await run();
    if (code !== 0) failed.push(name);
    console.log(`${name}: ${code === 0 ? 'fine' : 'FAILED'} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
  }
  if (failed.length > 0) console.log(`Checks that failed: ${failed.join(', ')}`);
  return failed.length > 0 ? 1 : 0;
}

const test = (...parameters) => tool('vitest/vitest.mjs', 'run', ...parameters);

const commands = {
  setup: async () => {
    console.log('Everything is set up.');
    return 0;
  },
  test,
  check,
  verify: async () => Math.max(await check(), await test()),
  quickstart: (...parameters) => script('stack/quickstart.ts', ...parameters),
  bench: (...parameters) => script('bench/main.ts', ...parameters),
  chaos: (...parameters) => script('test/chaos/main.ts', ...parameters),
  corpora: () => script('stack/corpora/prepare.ts'),
  cli: (...parameters) => node('cli/epsilonflow.mjs', ...parameters),
};

/** What to do when the file system refuses, by its error code. */
const diskRemedies = {
  ENOSPC: 'Free some disk space, then run the same command again.',
  EDQUOT: 'Free some disk space of your quota, then run the same command again.',
  EACCES: 'Make everything in .epsilonflow and node_modules yours (an earlier set-up may have run as root).',
  EPERM: 'Make everything in .epsilonflow and node_modules yours (an earlier set-up may have run as root).',
  EROFS: 'Clone the project onto a disk that can be written.',
};

async function main([name = 'setup', ...parameters]) {
  const command = commands[name];
  if (command === undefined) {
    console.error(`Unknown command "${name}". There are: ${Object.keys(commands).join(', ')}.`);
    return 2;
  }
  try {
    await setUp();
  } catch (error) {
    const hint = error instanceof SetupFailure ? error.hint : diskRemedies[error.code];
    if (hint === undefined) throw error;
    console.error(`\nerror SETUP_INCOMPLETE: ${error.message}\n  hint: ${hint}`);
    return 4;
  }
  return command(...parameters);
}

process.exitCode = await main(process.argv.slice(2));
