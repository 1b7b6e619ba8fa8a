/** A released folder shows by itself what was paid for it: read by someone who has nothing else. */

import { createHash } from 'node:crypto';
import { appendFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';

import { main } from '../../cli/main.ts';
import { envelopeAccount } from '../../privacy/ledger/index.ts';
import { readBundle } from '../../tracking/evidence/bundle.ts';
import { verifyEvidence, type Verdict } from '../../tracking/evidence/verify.ts';
import { verifyRelease } from '../../tracking/evidence/verify-release.ts';
import { releaseInstance } from '../../tracking/release.ts';
import { drawn, fingerprint, makeHonestRun, type HonestRun } from './honest-run.ts';

let honest: HonestRun;
let released: string;

beforeAll(async () => {
  honest = await makeHonestRun();
  released = join(honest.folder, 'released');
  await releaseInstance({ ...honest, instance: 'synthetic[epsilon=4]', to: released, withAdapter: true });
});

afterAll(() => honest.close());

/** A copy to change, checked as a stranger would. */
async function verdictOf(change: (folder: string) => void): Promise<Verdict['mismatches']> {
  const copy = join(honest.folder, 'copy');
  rmSync(copy, { recursive: true, force: true });
  cpSync(released, copy, { recursive: true });
  change(copy);
  const bundle = readBundle(join(copy, 'evidence'));
  const [evidence, files] = [await verifyEvidence(bundle), await verifyRelease(copy, bundle)];
  return [...evidence.mismatches, ...files.mismatches];
}

describe('the evidence of a released folder', () => {
  afterEach(() => vi.restoreAllMocks());

  it('holds, with neither ledger nor store nor state folder', async () => {
    const alone = join(honest.folder, 'alone');
    cpSync(released, alone, { recursive: true });
    const before = { ...process.env };
    let printed = '';
    vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
      printed += String(chunk);
      return true;
    });
    try {
      process.env['EPSILONFLOW_HOME'] = join(honest.folder, 'nothing');
      process.env['EPSILONFLOW_LEDGER_URL'] = 'postgres://127.0.0.1:1/none';
      await main(['verify', alone, '--json']);
    } finally {
      process.env = before;
    }
    expect(process.exitCode ?? 0).toBe(0);
    const { mismatches, checked } = JSON.parse(printed) as Verdict;
    expect(mismatches).toEqual([]);
    expect(checked).toMatchObject({ spec: 1, epsilon: 2, account: 1, statement: 6 });
    expect(checked['files']).toBeGreaterThan(10);
  });

  it('tells of the released instances only, and of nobody else', () => {
    const { evidence } = readBundle(join(released, 'evidence'));
    const names = ['synthetic[epsilon=4,seed=1]', 'generator[epsilon=4,seed=1]'];
    expect(evidence.released).toEqual(names);
    expect(evidence.results.map(({ node }) => node)).toEqual(names);
    expect(evidence.statement.subject).toBe(names[0]);
    const everything = JSON.stringify(evidence);
    for (const hidden of ['somebody-else', 'their-generator', honest.elsewhere, fingerprint, String(drawn)]) {
      expect(everything).not.toContain(hidden);
    }
  });

  it('needs no result but what was released', async () => {
    const others = honest.plan.nodes.filter(({ id }) => !id.startsWith('synthetic[epsilon=4'));
    const kept = join(honest.folder, 'kept');
    const places = await Promise.all(
      others.map(async ({ key }) => ({ key, directory: (await honest.store.lookup(key))!.directory })),
    );
    for (const { key, directory } of places) cpSync(directory, join(kept, key), { recursive: true });
    for (const { directory } of places) rmSync(directory, { recursive: true });
    const to = join(honest.folder, 'lonely');
    try {
      await releaseInstance({ ...honest, instance: 'synthetic[epsilon=4]', to });
    } finally {
      for (const { key, directory } of places) cpSync(join(kept, key), directory, { recursive: true });
    }
    const bundle = readBundle(join(to, 'evidence'));
    expect((await verifyEvidence(bundle)).mismatches).toEqual([]);
    expect((await verifyRelease(to, bundle)).mismatches).toEqual([]);
  });

  const more = '{"text":"more","label":"pos"}\n';
  /** Writes digests that fit what lies there now. */
  const digest = (folder: string, file: string, content: string): void => {
    const sums = readFileSync(join(folder, 'SHA256SUMS'), 'utf8');
    writeFileSync(join(folder, file), content);
    const found = createHash('sha256').update(content).digest('hex');
    writeFileSync(join(folder, 'SHA256SUMS'), sums.replace(new RegExp(`[0-9a-f]{64}(?=  ${file}\n)`), found));
  };
  const read = (folder: string, file: string): string => readFileSync(join(folder, file), 'utf8');

  it.each<[string, string, string, (folder: string) => void]>([
    ['a row more', 'files', 'synthetic.jsonl', (folder) => appendFileSync(join(folder, 'synthetic.jsonl'), more)],
    [
      'a row more, with digests that fit',
      'files',
      'synthetic.jsonl',
      (folder) => digest(folder, 'synthetic.jsonl', read(folder, 'synthetic.jsonl') + more),
    ],
    [
      'other rows in Parquet, with digests that fit',
      'files',
      'synthetic.parquet',
      (folder) => digest(folder, 'synthetic.parquet', 'PAR1'),
    ],
    [
      'another adapter, with digests that fit',
      'files',
      'adapter/result.json',
      (folder) => digest(folder, 'adapter/result.json', '{}'),
    ],
    ['a file that is gone', 'files', 'dataset.yaml', (folder) => rmSync(join(folder, 'dataset.yaml'))],
    [
      'a file that was added',
      'files',
      'more/notes.txt',
      (folder) => {
        mkdirSync(join(folder, 'more'));
        writeFileSync(join(folder, 'more', 'notes.txt'), 'mine');
      },
    ],
    [
      'a kinder statement',
      'statement',
      'privacy-statement.json',
      (folder) =>
        digest(
          folder,
          'privacy-statement.json',
          read(folder, 'privacy-statement.json').replace(/"epsilon": [\d.]+/, '"epsilon": 1'),
        ),
    ],
    [
      'kinder words',
      'statement',
      'privacy-statement.md',
      (folder) =>
        digest(folder, 'privacy-statement.md', read(folder, 'privacy-statement.md').replace(/ε = [\d.]+/, 'ε = 1')),
    ],
    [
      'a kinder card',
      'statement',
      'README.md',
      (folder) => digest(folder, 'README.md', read(folder, 'README.md').replace(/ε = [\d.]+/, 'ε = 1')),
    ],
    [
      'private data in its snippet',
      'statement',
      'dataset.yaml',
      (folder) => digest(folder, 'dataset.yaml', read(folder, 'dataset.yaml').replace('text: text', 'text: label')),
    ],
    [
      'other labels in its snippet',
      'statement',
      'README.md',
      (folder) => digest(folder, 'dataset.yaml', read(folder, 'dataset.yaml').replace('pos', 'sop')),
    ],
    [
      'another set beside it, with digests that fit',
      'files',
      'better.jsonl',
      (folder) => {
        appendFileSync(join(folder, 'SHA256SUMS'), `${'0'.repeat(64)}  better.jsonl\n`);
        digest(folder, 'better.jsonl', more);
      },
    ],
  ])('shows %s', async (_, check, subject, change) => {
    expect(await verdictOf(change)).toContainEqual(expect.objectContaining({ check, subject }));
  });

  it('says what was lost with an earlier ledger in its papers, and is caught when it does not', async () => {
    const why = { author: 'board', reason: 'the disk is lost' };
    const expected = { ledger: 'an earlier one', sequence: 7, hash: 'ab', source: 'a note' };
    await honest.ledger.acknowledge([{ problem: 'exchanged', expected }], why);
    const to = join(honest.folder, 'after-loss');
    await releaseInstance({ ...honest, instance: 'synthetic[epsilon=4]', to });
    const bundle = readBundle(join(to, 'evidence'));
    expect((await verifyRelease(to, bundle)).mismatches).toEqual([]);

    const statement = JSON.parse(read(to, 'privacy-statement.json')) as { accounts: { losses: unknown[] }[] };
    expect(statement.accounts[0]!.losses).toHaveLength(1);
    statement.accounts[0]!.losses = [];
    digest(to, 'privacy-statement.json', JSON.stringify(statement));
    expect((await verifyRelease(to, bundle)).mismatches).toContainEqual(
      expect.objectContaining({ check: 'statement', subject: 'reviews' }),
    );
    digest(to, 'privacy-statement.json', JSON.stringify({ ...statement, accounts: [] }));
    expect((await verifyRelease(to, bundle)).mismatches).toContainEqual(
      expect.objectContaining({ check: 'statement', subject: 'privacy-statement.json' }),
    );
  });

  it('says in its papers what was waived on its account, and is caught when it does not', async () => {
    const account = envelopeAccount('reviews', honest.plan.datasets);
    const of = { experiment: 'somebody-else', planDigest: 'de'.repeat(32), accounts: [account] };
    await honest.ledger.recordWaiver({ waiver: 'test-metrics', reason: 'cleared by the board', ...of });
    const to = join(honest.folder, 'after-waiver');
    await releaseInstance({ ...honest, instance: 'synthetic[epsilon=4]', to });
    const bundle = readBundle(join(to, 'evidence'));
    expect((await verifyEvidence(bundle)).mismatches).toEqual([]);
    expect((await verifyRelease(to, bundle)).mismatches).toEqual([]);
    expect(read(to, 'privacy-statement.md')).toMatch(/waives test-metrics on this account \(“cleared by the board”\)/);
    expect(JSON.stringify(bundle.evidence)).not.toContain('somebody-else');

    const statement = JSON.parse(read(to, 'privacy-statement.json')) as { accounts: { waivers: unknown[] }[] };
    expect(statement.accounts[0]!.waivers).toMatchObject([{ waiver: 'test-metrics', reason: 'cleared by the board' }]);
    statement.accounts[0]!.waivers = [];
    digest(to, 'privacy-statement.json', JSON.stringify(statement));
    expect((await verifyRelease(to, bundle)).mismatches).toContainEqual(
      expect.objectContaining({ check: 'statement', subject: 'reviews' }),
    );
  });

  it('is no evidence for what else lies in a folder with it', async () => {
    const forged = join(honest.folder, 'forged');
    cpSync(join(released, 'evidence'), forged, { recursive: true });
    vi.spyOn(process.stderr, 'write').mockImplementation(() => true);
    vi.spyOn(process.stdout, 'write').mockImplementation(() => true);
    const exitCodeOf = async (folder: string): Promise<unknown> => {
      process.exitCode = 0;
      await main(['verify', folder]);
      const { exitCode } = process;
      process.exitCode = 0;
      return exitCode;
    };
    expect(await exitCodeOf(forged)).toBe(2);
    writeFileSync(join(forged, 'synthetic.jsonl'), more);
    expect(await exitCodeOf(forged)).toBe(2);
    expect(() => readBundle(forged)).toThrow(/synthetic\.jsonl is no file of a bundle/);
    cpSync(released, forged, { recursive: true });
    expect(await exitCodeOf(forged)).toBe(1);
  });

  it('stays the same when it is released again', async () => {
    const again = await releaseInstance({
      ...{ ...honest, instance: 'synthetic[epsilon=4]', to: released, withAdapter: true },
    });
    expect(again.unchanged).toBe(true);
  });
});
