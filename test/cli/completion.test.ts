import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';

import { packageRoot } from '../../stack/paths.ts';

const folder = mkdtempSync(join(tmpdir(), 'epsilonflow completion '));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const state = join(folder, 'state');
for (const run of ['reviews/1', 'reviews/12', 'speeches/1', 'claimed/1']) {
  mkdirSync(join(state, 'runs', run), { recursive: true });
  if (run !== 'claimed/1') writeFileSync(join(state, 'runs', run, 'run.json'), '{}');
}
for (const file of ['my reviews.yaml', 'more.yml', 'mean.csv']) writeFileSync(join(folder, file), '');
mkdirSync(join(folder, 'models'));

const entry = join(packageRoot, 'cli', 'epsilonflow.mjs');
const printed = spawnSync(process.execPath, [entry, 'completion', 'bash'], { encoding: 'utf8' });
const script = join(folder, 'completion.bash');
writeFileSync(script, printed.stdout);

/** What bash proposes for the last of the words, in alphabetical order. */
function proposals(...words: string[]): string[] {
  // `compopt` works only while a person presses Tab.
  const asked = `compopt() { :; }; source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _epsilonflow
    ((\${#COMPREPLY[@]} == 0)) || printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr } = spawnSync('bash', ['--norc', '-c', asked, 'bash', script, 'epsilonflow', ...words], {
    cwd: folder,
    encoding: 'utf8',
    env: { ...process.env, EPSILONFLOW_HOME: state },
  });
  expect(stderr).toBe('');
  return stdout.split('\n').filter(Boolean).sort();
}

describe('completion in bash', () => {
  it('is a script for the shell to load', () => {
    expect(printed).toMatchObject({ status: 0, stderr: '' });
  });

  it.each<[string, string[], string[]]>([
    ['commands', ['re'], ['release', 'report', 'rerun', 'resume', 'retry']],
    ['commands of a command', ['ledger', 's'], ['set-budget', 'show']],
    ['options', ['gc', '--k'], ['--keep-last']],
    ['options of a command of a command', ['privacy', 'sigma', '--target'], ['--target-epsilon']],
    ['runs', ['report', ''], ['latest', 'reviews/1', 'reviews/12', 'speeches/1']],
    ['runs by their beginning', ['status', '--json', 'reviews/1'], ['reviews/1', 'reviews/12']],
    ['specs with spaces, and folders', ['plan', 'm'], ['models', 'more.yml', 'my reviews.yaml']],
    ['the argument after an option with its value', ['plan', '--profile', 'small', 'my'], ['my reviews.yaml']],
    ['the argument after an option with = and a value', ['plan', '--profile', '=', 'small', 'my'], ['my reviews.yaml']],
    ['words that an argument may be', ['completion', ''], ['bash']],
    ['nothing as the value of an option: bash names files', ['plan', '--profile', ''], []],
    ['nothing as the value after =: bash names files', ['plan', '--profile', '=', 'sm'], []],
    ['nothing where no argument goes', ['status', 'latest', ''], []],
  ])('proposes %s', (_, words, expected) => {
    expect(proposals(...words)).toEqual(expected);
  });
});
