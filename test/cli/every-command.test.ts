import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

import type { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

import { createLiveView } from '../../cli/live-view.ts';
import { buildProgram } from '../../cli/main.ts';
import { packageRoot } from '../../stack/paths.ts';
import { openWorkspace, preamble } from '../compiler/workspace.ts';
import { epsilonflow } from './in-process.ts';

const workspace = openWorkspace();
const sound = workspace.write(
  'sound.yaml',
  `${preamble}steps: { on-real: { uses: train-classifier, with: { train: reviews, test: reviews, epsilon: 8 } } }\n`,
);
beforeAll(() => {
  vi.stubEnv('EPSILONFLOW_HOME', join(workspace.folder, 'state'));
  vi.stubEnv('EPSILONFLOW_LEDGER_URL', `sqlite:${join(workspace.folder, 'ledger', 'ledger.db')}`);
  // Nobody listens there, and nothing is started where a server is named.
  vi.stubEnv('TEMPORAL_ADDRESS', '127.0.0.1:9');
  vi.stubEnv('MLFLOW_TRACKING_URI', 'http://127.0.0.1:9');
  vi.stubEnv('FORCE_COLOR', '');
});
afterAll(() => {
  vi.unstubAllEnvs();
  workspace.remove();
});

const within = (command: Command, path: string[]): [string[], Command][] =>
  command.commands.flatMap((child): [string[], Command][] => [
    [[...path, child.name()], child],
    ...within(child, [...path, child.name()]),
  ]);

const every = within(buildProgram(), []).map(([path, command]) => [path.join(' '), command] as const);
const working = every.filter(([, { commands }]) => commands.length === 0);
const groups = every.filter(([, { commands }]) => commands.length > 0);

describe.each(every)('epsilonflow %s', (path, command) => {
  it('has help with an example, and says what each argument and option means', async () => {
    const { code, stdout, stderr } = await epsilonflow(...path.split(' '), '--help');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(new RegExp(`Examples?:\\s+epsilonflow ${path}\\b`));
    expect(command.description()).toMatch(/\.$/);
    for (const { flags, description } of command.options) expect(description, flags).not.toBe('');
    for (const argument of command.registeredArguments) expect(argument.description, argument.name()).not.toBe('');
  });
});

describe.each(working)('epsilonflow %s', (path, { options }) => {
  it('ends with 2 for an option that there is not, which --json tells as JSON', async () => {
    const needed = options.flatMap(({ mandatory, long }) => (mandatory ? [long!, '1'] : []));
    const words = [...path.split(' '), ...needed];
    const plain = await epsilonflow(...words, '--jsn');
    expect(plain).toMatchObject({ code: 2, stdout: '' });
    expect(plain.stderr).toContain('hint: Did you mean --json?');
    const { code, stdout, stderr } = await epsilonflow(...words, '--no-such-option', '--json');
    expect({ code, stderr }).toEqual({ code: 2, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({ errors: [{ code: 'ARGUMENT_INVALID' }] });
  });
});

describe('what --json prints, and the exit code', () => {
  const run = 'trial/1';
  it.each<[args: string, code: number, told: object]>([
    ['validate SPEC', 0, { errors: [] }],
    ['plan SPEC', 0, { planVersion: 1, errors: [] }],
    ['validate nowhere.yaml', 2, { errors: [{ code: 'SPEC_FILE_MISSING' }] }],
    ['run nowhere.yaml', 2, { errors: [{ code: 'SPEC_FILE_MISSING' }] }],
    ['run SPEC', 4, { errors: [{ code: 'SERVICE_UNREACHABLE' }] }],
    ['worker', 4, { errors: [{ code: 'SERVICE_UNREACHABLE' }] }],
    ['status', 0, { runs: [] }],
    ['ledger show', 0, {}],
    ['ledger verify', 0, { intact: true }],
    ['gc', 0, {}],
    ['down', 0, {}],
    ['explain DISK_FULL', 0, { code: 'DISK_FULL' }],
    ['completion fish', 0, { shell: 'fish' }],
    ['privacy epsilon --sampling-probability 0.01 --noise-multiplier 1 --steps 10 --delta 1e-5', 0, {}],
    ['privacy sigma --target-epsilon 8 --sampling-probability 0.02 --steps 10 --delta 1e-6', 0, {}],
    ['privacy steps --target-epsilon 8 --sampling-probability 0.02 --noise-multiplier 1 --delta 1e-6', 0, {}],
    ['privacy epsilon --sampling-probability 2', 2, { errors: [{ code: 'ARGUMENT_INVALID' }] }],
    [`status ${run}`, 2, { errors: [{ code: 'RUN_UNKNOWN' }] }],
    [`logs ${run}`, 2, { errors: [{ code: 'RUN_UNKNOWN' }] }],
    [`logs ${run} --lines x`, 2, { errors: [{ code: 'ARGUMENT_INVALID' }] }],
    [`logs ${run} --lines 0`, 2, { errors: [{ code: 'ARGUMENT_INVALID' }] }],
    [`logs ${run} --lines -5`, 2, { errors: [{ code: 'ARGUMENT_INVALID' }] }],
    [`cancel ${run}`, 2, { errors: [{ code: 'RUN_UNKNOWN' }] }],
    [`pause ${run}`, 2, { errors: [{ code: 'RUN_UNKNOWN' }] }],
    [`resume ${run}`, 2, { errors: [{ code: 'RUN_UNKNOWN' }] }],
    [`approve ${run} --reason agreed`, 2, { errors: [{ code: 'RUN_UNKNOWN' }] }],
    [`retry ${run}`, 2, { errors: [{ code: 'RUN_UNKNOWN' }] }],
    [`rerun ${run} --from on-real`, 2, { errors: [{ code: 'RUN_UNKNOWN' }] }],
    [`report ${run}`, 2, { errors: [{ code: 'RUN_UNKNOWN' }] }],
    [`publish ${run}`, 2, { errors: [{ code: 'RUN_UNKNOWN' }] }],
    [`release ${run} on-real --to out`, 2, { errors: [{ code: 'RUN_UNKNOWN' }] }],
    [`export ${run} --to out`, 2, { errors: [{ code: 'RUN_UNKNOWN' }] }],
    [`verify ${run}`, 2, { errors: [{ code: 'RUN_UNKNOWN' }] }],
  ])('%s: %i', async (args, code, told) => {
    const words = args.split(' ').map((word) => (word === 'SPEC' ? sound : word));
    const outcome = await epsilonflow(...words, '--json');
    expect(outcome.code, outcome.stdout + outcome.stderr).toBe(code);
    expect(JSON.parse(outcome.stdout)).toMatchObject(told);
    expect(outcome.stdout).not.toContain('\u001b');
  });
});

describe('a misspelt command', () => {
  it('suggests one', async () => {
    const { code, stderr } = await epsilonflow('statsu');
    expect(code).toBe(2);
    expect(stderr).toContain('hint: Did you mean status?');
  });

  it.each(groups)('of %s suggests one of its own', async (path, { commands }) => {
    const name = commands[0]!.name();
    const { code, stderr } = await epsilonflow(...path.split(' '), `${name}x`);
    expect(code).toBe(2);
    expect(stderr).toContain(`hint: Did you mean ${name}?`);
  });
});

describe('colours', () => {
  const coloured = '\u001b[';
  /** With a terminal of its own, by `script`. */
  function onTerminal(environment: Record<string, string> = {}): string {
    const entry = join(packageRoot, 'cli', 'epsilonflow.mjs');
    const command = `'${process.execPath}' '${entry}' explain DISK_FULL`;
    const { stdout } = spawnSync('script', ['-qec', command, '/dev/null'], {
      encoding: 'utf8',
      env: { ...process.env, TERM: 'xterm', NO_COLOR: '', ...environment },
    });
    expect(stdout).toContain('DISK_FULL');
    return stdout;
  }

  it('are for terminals', async () => {
    expect(onTerminal()).toContain(coloured);
    expect((await epsilonflow('explain', 'DISK_FULL')).stdout).not.toContain(coloured);
  });

  it('are left out where someone asks for none', () => {
    expect(onTerminal({ NO_COLOR: '1' })).not.toContain(coloured);
    expect(onTerminal({ TERM: 'dumb' })).not.toContain(coloured);
  });
});

describe('the bar of a run', () => {
  const drawn = (isTerminal: boolean): string => {
    let written = '';
    const before = process.stderr.isTTY;
    const spy = vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      written += String(text);
      return true;
    });
    process.stderr.isTTY = isTerminal;
    try {
      const groups = [{ step: 'generator', total: 4, done: 0, running: 0, failed: 0, leftOut: 0 }];
      createLiveView(4).show([], { groups, running: [], left: { sum: 600, unknown: 0 }, spent: [], links: [] });
    } finally {
      process.stderr.isTTY = before;
      spy.mockRestore();
    }
    return written.replaceAll(/\u001b\[[\dA-Z]*m?/g, '');
  };

  it('is drawn where a person watches, with the time left', () => {
    expect(drawn(true)).toContain('░ 0/4 instances, about 10 min left');
    expect(drawn(false)).toBe('');
  });
});
