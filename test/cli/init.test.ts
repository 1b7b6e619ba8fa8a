import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';

import { packageRoot } from '../../stack/paths.ts';

const home = mkdtempSync(join(tmpdir(), 'epsilonflow-init '));
// A git work tree of its own: a ledger's marker made here is not one of the clone around it.
mkdirSync(join(home, '.git'));
afterAll(() => rmSync(home, { recursive: true, force: true }));

function epsilonflow(...args: string[]): { code: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(packageRoot, 'cli', 'epsilonflow.mjs'), ...args],
    {
      cwd: home,
      encoding: 'utf8',
      env: {
        ...process.env,
        EPSILONFLOW_HOME: join(home, 'state'),
        EPSILONFLOW_LEDGER_URL: `sqlite:${join(home, 'ledger', 'ledger.db')}`,
      },
    },
  );
  return { code: status, stdout, stderr };
}

/** Rows of two classes, enough for the batches of the spec. */
const csv = (rows: number, what: string): string =>
  ['stars,body', ...Array.from({ length: rows }, (_, row) => `${(row % 2) * 4 + 1},"${what} ${row}"`)].join('\n');

writeFileSync(join(home, 'reviews.csv'), csv(3000, 'opinion'));
writeFileSync(join(home, 'reviews test.csv'), csv(200, 'other'));

describe('epsilonflow init', () => {
  it('makes a spec with sample text that is sound with all its profiles', () => {
    expect(epsilonflow('init', 'sample')).toMatchObject({ code: 0, stderr: '' });
    expect(epsilonflow('validate', 'sample/sample.yaml')).toMatchObject({ code: 0, stderr: '' });
    for (const profile of [[], ['--profile', 'small']]) {
      const { code, stdout } = epsilonflow('plan', 'sample/sample.yaml', '--json', ...profile);
      expect(code).toBe(0);
      expect((JSON.parse(stdout) as { nodes: object[] }).nodes).toHaveLength(10);
    }
  });

  it('makes a private one of files that stay where they are', () => {
    const files = ['--data', 'reviews.csv', '--test', 'reviews test.csv', '--text', 'body', '--label', 'stars'];
    const made = epsilonflow('init', 'reviews', ...files, '--values', '1, 5', '--json');
    expect(made).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(made.stdout)).toMatchObject({ sensitivity: 'private' });
    const text = readFileSync(join(home, 'reviews', 'reviews.yaml'), 'utf8');
    expect(text).toContain('files: { train: ../reviews.csv, test: "../reviews test.csv" }');
    expect(text).toContain('values: ["1", "5"]');
    const { code, stdout } = epsilonflow('plan', 'reviews/reviews.yaml', '--json');
    expect(code).toBe(0);
    const { privacy } = JSON.parse(stdout) as { privacy: Record<string, { experiment: number; budget: number }> };
    expect(privacy['reviews']!.experiment).toBeLessThanOrEqual(privacy['reviews']!.budget);
  });

  it.each([
    ['a folder that holds something', ['state-of-things'], 'is there already and not empty'],
    ['a name that is none', ['My Reviews'], "can't name an experiment"],
    ['half of what own data need', ['half', '--data', 'reviews.csv'], 'need --test and --values too'],
    [
      'a file that does not exist',
      ['none', '--data', 'revews.csv', '--test', 'x.csv', '--values', 'a,b'],
      'revews.csv does not exist',
    ],
    [
      'one label',
      ['one', '--data', 'reviews.csv', '--test', 'reviews.csv', '--values', 'a'],
      'at least two different labels',
    ],
  ])('refuses %s and makes nothing', (_, args, message) => {
    mkdirSync(join(home, 'state-of-things', 'x'), { recursive: true });
    const { code, stderr } = epsilonflow('init', ...args);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
  });
});
