import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mailText } from '../../stack/demo-data/mails.ts';
import { demoDatasets, preparedManifest, prepareDataset, type DemoManifest } from '../../stack/demo-data/prepare.ts';
import { comparable, splitSentences } from '../../stack/demo-data/sentences.ts';
import { splitRecords, type DemoRecord } from '../../stack/demo-data/split.ts';

let root: string;
let manifests: Record<string, DemoManifest>;

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'demo data '));
  manifests = Object.fromEntries(demoDatasets.map((dataset) => [dataset.name, prepareDataset(dataset, root)]));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const read = (name: string, split: string): DemoRecord[] =>
  readFileSync(join(root, name, `${split}.jsonl`), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as DemoRecord);

describe.each(['speeches', 'mails'])('demo dataset %s', (name) => {
  it('holds no text twice, neither within a split nor across both', () => {
    const texts = [...read(name, 'train'), ...read(name, 'test')].map(({ text }) => comparable(text));
    expect(new Set(texts).size).toBe(texts.length);
  });

  it('has both labels in both splits, and says how many', () => {
    for (const [file, { records, byLabel, sha256 }] of Object.entries(manifests[name]!.files)) {
      const content = readFileSync(join(root, name, file));
      expect(createHash('sha256').update(content).digest('hex')).toBe(sha256);
      expect(Object.keys(byLabel).sort()).toEqual([...manifests[name]!.labels].sort());
      expect(Object.values(byLabel).reduce((sum, count) => sum + count)).toBe(records);
      expect(Math.min(...Object.values(byLabel))).toBeGreaterThan(0.2 * records);
    }
  });

  it('notes source and licence', () => {
    expect(readFileSync(join(root, name, 'SOURCE.md'), 'utf8')).toMatch(/## Licence\n.*\n/);
  });

  it('holds plain lower-case text of bounded length', () => {
    for (const { text } of read(name, 'test')) {
      expect(text).toMatch(/^[\x20-\x40\x5b-\x7e]{20,400}$/);
    }
  });
});

describe('preparing demo data', () => {
  it('gives the same files on every machine and version of Node', () => {
    const digests = Object.values(manifests).flatMap(({ name, files }) =>
      Object.entries(files).map(([file, { records, sha256 }]) => `${name}/${file} ${records} ${sha256.slice(0, 16)}`),
    );
    expect(digests).toMatchInlineSnapshot(`
      [
        "speeches/train.jsonl 51287 b542d30e295c401c",
        "speeches/test.jsonl 8000 a079ee5bd5689d67",
        "mails/train.jsonl 4809 2836057e14e6f72d",
        "mails/test.jsonl 1000 b98a304486054d2e",
      ]
    `);
  });

  it('leaves a whole dataset or none when it is killed', async () => {
    const folder = join(root, 'killed');
    const script = fileURLToPath(new URL('demo-data-process.ts', import.meta.url));
    for (const wait of [400, 900, 1400, 1900]) {
      const child = spawn(process.execPath, ['--import', 'tsx', script, 'mails', folder], { stdio: 'inherit' });
      const timer = setTimeout(() => child.kill('SIGKILL'), wait);
      await new Promise((resolve) => child.on('close', resolve));
      clearTimeout(timer);
      if (existsSync(join(folder, 'mails'))) expect(readdirSync(join(folder, 'mails'))).toHaveLength(4);
    }
    const mails = demoDatasets.find(({ name }) => name === 'mails')!;
    expect(prepareDataset(mails, folder).files).toEqual(manifests['mails']!.files);
  });

  it('prepares again what was damaged', () => {
    const speeches = demoDatasets.find(({ name }) => name === 'speeches')!;
    expect(preparedManifest(speeches, root)).not.toBeNull();
    rmSync(join(root, 'speeches', 'test.jsonl'));
    expect(preparedManifest(speeches, root)).toBeNull();
    prepareDataset(speeches, root);
    expect(read('speeches', 'test')).toHaveLength(manifests['speeches']!.files['test.jsonl']!.records);
  });
});

describe('splitting records', () => {
  it('drops repeated texts and texts with both labels, whatever their case and signs', () => {
    const records = [
      { text: 'One thing.', label: 'a' },
      { text: 'one thing', label: 'a' },
      { text: 'Another thing', label: 'a' },
      { text: 'another, thing!', label: 'b' },
      { text: 'Third', label: 'b' },
    ];
    const { train, test, dropped } = splitRecords(records, 1);
    expect([...train, ...test].map(({ text }) => text).sort()).toEqual(['One thing.', 'Third']);
    expect(dropped).toEqual({ repeated: 1, conflicting: 2 });
  });
});

describe('sentences', () => {
  it('end at full stops, but not after titles, initials and abbreviations', () => {
    expect(
      splitSentences('Mr. Adams spoke to J. Q. Public.  The U.S. Senate, led by Gen. Grant, agreed! Was it "so?" Yes.'),
    ).toEqual([
      'Mr. Adams spoke to J. Q. Public.',
      'The U.S. Senate, led by Gen. Grant, agreed!',
      'Was it "so?"',
      'Yes.',
    ]);
  });
});

describe('text of a mail', () => {
  it('is subject and body, without reply marks, quotations, links, addresses and signature', () => {
    const raw = [
      'From: a@example.org',
      'Subject: Re: [list] A =?iso-8859-1?q?caf=E9?= today',
      'Content-Type: text/plain',
      '',
      'On Monday Bob wrote:',
      '> old words',
      'See http://example.org/page or ask bob@example.org now.',
      '-- ',
      'Alice',
    ];
    expect(mailText(raw.join('\n'))).toBe('a cafe today | see (link) or ask (address) now.');
  });

  it('is read out of the first text part of a multipart mail, decoded, and without markup', () => {
    const raw = [
      'Subject: Offer',
      'Content-Type: multipart/alternative; boundary="XX"',
      '',
      '--XX',
      'Content-Type: text/html',
      'Content-Transfer-Encoding: quoted-printable',
      '',
      '<html><style>p {}</style><p>Buy =\nnow &amp; save=21</p>',
      '--XX--',
    ];
    expect(mailText(raw.join('\n'))).toBe('offer | buy now & save!');
  });
});
