import { describe, expect, it } from 'vitest';
import { atLeast, missingPrerequisites, thisMachine, type Machine } from '../../stack/setup/prerequisites.mjs';

const all = { python: true, compiler: true, diskMegabytes: 3000 };

/** A machine with everything, but for what is given. */
const machine = (differences: Partial<Machine> & { without?: RegExp } = {}): Machine => ({
  platform: 'linux',
  arch: 'x64',
  glibc: '2.36',
  node: '22.11.0',
  run: (command, parameters) => {
    const line = [command, ...parameters].join(' ');
    if (differences.without?.test(line)) return null;
    return line.includes('python_version') ? '3.12.3' : '';
  },
  freeBytes: () => 50e9,
  writable: () => true,
  ...differences,
});

const faults = (differences: Parameters<typeof machine>[0]): string =>
  missingPrerequisites(all, machine(differences))
    .map(({ problem, fix }) => `${problem} -> ${fix}`)
    .join('\n');

describe('prerequisites of set-up', () => {
  it('asks for nothing on a machine that has everything', () => {
    expect(missingPrerequisites(all, machine())).toEqual([]);
  });

  it('names the package that brings Python', () => {
    expect(faults({ without: /^python/ })).toMatch(
      /No Python 3\.10 or newer.* -> .*apt-get install python3 python3-venv/,
    );
  });

  it('takes an older Python for a missing one', () => {
    const run: Machine['run'] = (_command, parameters) =>
      parameters.join().includes('python_version') ? '3.9.18' : '';
    expect(faults({ run })).toMatch(/No Python 3\.10/);
  });

  it('names the package that brings venv', () => {
    expect(faults({ without: /ensurepip/ })).toMatch(
      /lacks the modules venv and ensurepip.*python3-venv, or python3\.12-venv/,
    );
  });

  it('names the package that brings a compiler', () => {
    expect(faults({ without: /\+\+/ })).toMatch(/No C\+\+ compiler.*apt-get install g\+\+/);
  });

  it('names the fix for an old Node, another system, another C library and a full disk', () => {
    expect(faults({ node: '18.20.4' })).toMatch(/Node 18\.20\.4 is too old.*Install Node 20, 22 or 24/);
    expect(faults({ platform: 'darwin', arch: 'arm64' })).toMatch(/darwin on arm64.*Linux x64/);
    expect(faults({ glibc: null })).toMatch(/no glibc.*Debian/);
    expect(faults({ freeBytes: () => 1e9 })).toMatch(/1000 MB free; set-up needs 3000 MB.*Free some space/);
    expect(faults({ writable: () => false })).toMatch(/can't be written/);
  });

  it('tells of all that is missing at once', () => {
    expect(missingPrerequisites(all, machine({ node: '16.0.0', without: /python|\+\+/ }))).toHaveLength(3);
  });

  it('does not ask for a compiler when nothing is to be built', () => {
    expect(missingPrerequisites({ ...all, compiler: false }, machine({ without: /\+\+/ }))).toEqual([]);
  });

  it('finds what this machine has', () => {
    expect(missingPrerequisites({ python: true, compiler: true, diskMegabytes: 1 }, thisMachine())).toEqual([]);
  });

  it('compares versions by number', () => {
    expect(atLeast('20.19.0', '20.19.0')).toBe(true);
    expect(atLeast('20.9.0', '20.19.0')).toBe(false);
    expect(atLeast('3.10', '3.9.9')).toBe(true);
  });
});
