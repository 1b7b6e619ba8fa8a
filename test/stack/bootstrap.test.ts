import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { packageRoot } from '../../stack/paths.ts';
import { parts } from '../../stack/setup/parts.mjs';

let folder: string;
let clone: string;

/** A clone in which nothing is set up, on a machine whose PATH has what is named. */
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fresh clone '));
  clone = join(folder, 'with spaces');
  cpSync(join(packageRoot, 'stack'), join(clone, 'stack'), { recursive: true });
  for (const file of ['package.json', 'package-lock.json']) cpSync(join(packageRoot, file), join(clone, file));
  mkdirSync(join(folder, 'bin'));
  mkdirSync(join(folder, 'home'));
  symlinkSync('/usr/bin/test', join(folder, 'bin', 'test'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const bootstrap = (...parameters: string[]) =>
  spawnSync(process.execPath, [join('stack', 'bootstrap.mjs'), ...parameters], {
    cwd: clone,
    encoding: 'utf8',
    env: { PATH: join(folder, 'bin'), HOME: join(folder, 'home') },
  });

describe('the entry of a fresh clone', () => {
  it('says what it downloads and how much disk it takes, then names every missing thing with its fix', () => {
    const { status, stderr } = bootstrap('quickstart');
    expect(status).toBe(4);
    expect(stderr).toMatch(/downloads about \d+ MB and takes about \d+ MB of disk/);
    expect(stderr.indexOf('of disk')).toBeLessThan(stderr.indexOf('SETUP_INCOMPLETE'));
    expect(stderr).toContain('apt-get install python3 python3-venv');
    expect(stderr).toContain('apt-get install g++');
  });

  it('leaves no lock behind when it fails, and writes nothing outside the clone', () => {
    bootstrap('test');
    expect(readdirSync(join(clone, '.epsilonflow')).filter((name) => name.includes('lock'))).toEqual([]);
    expect(readdirSync(join(folder, 'home'))).toEqual([]);
    expect(readdirSync(folder).sort()).toEqual(['bin', 'home', 'with spaces']);
  });

  it('answers an unknown command with those that there are', () => {
    const { status, stderr } = bootstrap('frobnicate');
    expect(status).toBe(2);
    expect(stderr).toMatch(/Unknown command "frobnicate".*quickstart/);
  });
});

describe('the parts of set-up', () => {
  it('are ready wherever the tests run, TensorFlow by really computing', async () => {
    for (const part of parts) expect(await part.check(), part.id).toMatchObject({ ready: true });
  });
});
