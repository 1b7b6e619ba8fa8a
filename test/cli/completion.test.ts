import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';

import { requires } from '../requires.ts';
import { epsilonflow } from './in-process.ts';

const folder = mkdtempSync(join(tmpdir(), 'epsilonflow completion '));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const state = join(folder, 'state');
for (const run of ['reviews/1', 'reviews/12', 'speeches/1', 'claimed/1']) {
  mkdirSync(join(state, 'runs', run), { recursive: true });
  if (run !== 'claimed/1') writeFileSync(join(state, 'runs', run, 'run.json'), '{}');
}
for (const file of ['my reviews.yaml', 'more.yml', 'mean.csv']) writeFileSync(join(folder, file), '');
mkdirSync(join(folder, 'models'));

const environment = { ...process.env, EPSILONFLOW_HOME: state };

/** File with the script that a shell loads. */
async function scriptFor(shell: string): Promise<string> {
  const { code, stdout, stderr } = await epsilonflow('completion', shell);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const script = join(folder, `completion.${shell}`);
  writeFileSync(script, stdout);
  return script;
}

const scripts = { bash: await scriptFor('bash'), fish: await scriptFor('fish'), zsh: await scriptFor('zsh') };

function shell(command: string, parameters: string[], more: Record<string, string> = {}): string {
  const { stdout, stderr } = spawnSync(command, parameters, {
    cwd: folder,
    encoding: 'utf8',
    env: { ...environment, ...more },
  });
  expect(stderr).toBe('');
  return stdout;
}

const sorted = (lines: string): string[] => [...new Set(lines.split('\n').filter(Boolean))].sort();

/** Cases that every shell answers alike. */
const cases: [what: string, words: string[], proposed: string[]][] = [
  ['commands', ['re'], ['release', 'report', 'rerun', 'resume', 'retry']],
  ['commands of a command', ['ledger', 's'], ['set-budget', 'show']],
  ['options', ['gc', '--k'], ['--keep-last']],
  ['options of a command of a command', ['privacy', 'sigma', '--target'], ['--target-epsilon']],
  ['runs', ['report', ''], ['latest', 'reviews/1', 'reviews/12', 'speeches/1']],
  ['runs by their beginning', ['status', '--json', 'reviews/1'], ['reviews/1', 'reviews/12']],
  ['the argument after an option with its value', ['plan', '--profile', 'small', 'my'], ['my reviews.yaml']],
  ['words that an argument may be', ['completion', ''], ['bash', 'fish', 'zsh']],
  ['words that the value of an option may be', ['privacy', 'epsilon', '--accountant', ''], ['pld', 'rdp']],
  ['nothing where no argument goes', ['status', 'latest', ''], []],
];

describe('completion in bash', () => {
  /** What bash proposes for the last of the words, in alphabetical order. */
  function proposals(words: string[]): string[] {
    // `compopt` works only while a person presses Tab.
    const asked = `compopt() { :; }; source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _epsilonflow
      ((\${#COMPREPLY[@]} == 0)) || printf '%s\\n' "\${COMPREPLY[@]}"`;
    return sorted(shell('bash', ['--norc', '-c', asked, 'bash', scripts.bash, 'epsilonflow', ...words]));
  }

  it.each<[string, string[], string[]]>([
    ...cases,
    ['specs with spaces, and folders', ['plan', 'm'], ['models', 'more.yml', 'my reviews.yaml']],
    ['the argument after an option with = and a value', ['plan', '--profile', '=', 'small', 'my'], ['my reviews.yaml']],
    ['words after =', ['privacy', 'epsilon', '--accountant', '=', 'p'], ['pld']],
    ['nothing as the value of an option: bash names files', ['plan', '--profile', ''], []],
    ['nothing as the value after =: bash names files', ['plan', '--profile', '=', 'sm'], []],
  ])('proposes %s', (_, words, expected) => {
    expect(proposals(words)).toEqual(expected);
  });
});

describe.runIf(requires('fish', 'completion in fish'))('completion in fish', () => {
  /** Each line: what is proposed, a tab, what it means. */
  function lines(words: string[]): string {
    const line = ['epsilonflow', ...words].map((word) => word.replaceAll(' ', '\\ ')).join(' ');
    return shell('fish', ['--no-config', '-c', `source $argv[1]; complete -C $argv[2]`, scripts.fish, line]);
  }

  it.each<[string, string[], string[]]>([
    ...cases,
    ['specs with spaces, and folders', ['plan', 'm'], ['models/', 'more.yml', 'my reviews.yaml']],
  ])('proposes %s', (_, words, expected) => {
    expect(sorted(lines(words).replaceAll(/\t.*/g, ''))).toEqual(expected);
  });

  it('tells what commands and options mean', () => {
    expect(lines(['expl'])).toBe(
      'explain\tTell what an error code means and what to do about it; without a code, list all.\n',
    );
    expect(lines(['gc', '--dry'])).toBe('--dry-run\tshow what would be removed, and remove nothing\n');
  });
});

describe.runIf(requires('zsh', 'completion in zsh'))('completion in zsh', () => {
  const inner = join(folder, 'inner.zsh');
  writeFileSync(
    inner,
    String.raw`PROMPT=''
autoload -Uz compinit && compinit -D -u
source "$SCRIPT"
zstyle ':completion:*' insert-tab false
compadd() {
  if [[ ${'${@[1,(i)(-|--)]}'} != *-(O|A|D)\ * ]]; then
    local -a proposed
    builtin compadd -A proposed "$@"
    print -rl -- $proposed >> "$PROPOSED"
  fi
  builtin compadd "$@"
}
finish() { exit }
comppostfuncs=(finish)
bindkey '^I' complete-word
print READY
`,
  );
  /** In a terminal of its own, a person types the words and presses Tab. */
  const outer = String.raw`zmodload zsh/zpty
zpty person zsh -f -i
zpty -w person "source ${'${(q)1}'}"
zpty -r person seen '*READY*'
zpty -w -n person "$2"$'\t'
while zpty -r person seen; do :; done`;

  function proposals(words: string[]): string[] {
    const line = ['epsilonflow', ...words].map((word) => word.replaceAll(' ', '\\ ')).join(' ');
    const proposed = join(folder, 'proposed');
    writeFileSync(proposed, '');
    shell('zsh', ['-f', '-c', outer, 'zsh', inner, line], { SCRIPT: scripts.zsh, PROPOSED: proposed });
    // Quoted as they will stand on the line.
    return sorted(readFileSync(proposed, 'utf8').replaceAll('\\ ', ' '));
  }

  it.each<[string, string[], string[]]>([
    ...cases,
    ['specs with spaces, and folders', ['plan', 'm'], ['models', 'more.yml', 'my reviews.yaml']],
  ])('proposes %s', (_, words, expected) => {
    expect(proposals(words)).toEqual(expected);
  });
});
