import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';

import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import {
  readDigested,
  readPlanned,
  type DatasetSource,
  inspectDataset,
  readRecords,
  readSynthetic,
} from '../../datasets/index.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import type { PlanFile, Sensitivity } from '../../schemas/plan.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'datasets '));
});
afterAll(() => rm(folder, { recursive: true }));

let count = 0;
async function source(
  content: string | Buffer,
  format: PlanFile['format'],
  options: { compression?: PlanFile['compression']; sensitivity?: Sensitivity; labelled?: boolean } = {},
): Promise<DatasetSource> {
  const path = join(folder, `${(count += 1)}.${format}`);
  await writeFile(path, content);
  return {
    name: 'reviews',
    files: { train: { path, format, compression: options.compression ?? 'none' } },
    text: 'review',
    label: options.labelled === false ? null : { column: 'stars', values: ['bad', 'good'] },
    sensitivity: options.sensitivity ?? 'benchmark',
  };
}

const jsonl = (rows: object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
const rows = [
  { review: 'Fine, "very" fine', stars: 'good', extra: 1 },
  { review: 'zu kalt – naja', stars: 'bad', extra: 2 },
  { review: '', stars: 'bad', extra: 3 },
];
const expected = [
  { text: 'Fine, "very" fine', label: 1 },
  { text: 'zu kalt – naja', label: 0 },
  { text: '', label: 0 },
];
const csv = 'extra,review,stars\n1,"Fine, ""very"" fine",good\r\n2,zu kalt – naja,bad\n3,,bad\n';

async function fault(promise: Promise<unknown>): Promise<EpsilonflowError> {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof EpsilonflowError)) throw new Error('expected an EpsilonflowError', { cause: error });
  return error;
}

describe('reading records', () => {
  it('gives the same records and the same digest from every format and compression', async () => {
    const parquet = Buffer.from(
      parquetWriteBuffer({
        columnData: [
          { name: 'review', data: rows.map((row) => row.review), type: 'STRING' },
          { name: 'stars', data: [1, 0, 0], type: 'INT32' },
        ],
      }),
    );
    const sources = [
      await source(jsonl(rows), 'jsonl'),
      await source(`\uFEFF${jsonl(rows).replaceAll('\n', '\r\n')}`, 'jsonl'),
      await source(gzipSync(jsonl(rows)), 'jsonl', { compression: 'gzip' }),
      await source(brotliCompressSync(jsonl(rows)), 'jsonl', { compression: 'brotli' }),
      await source(JSON.stringify(rows), 'json'),
      await source(csv, 'csv'),
      await source('stars\treview\ngood\tFine, "very" fine\nbad\tzu kalt – naja\nbad\t\n', 'tsv'),
      await source(parquet, 'parquet'),
    ];
    const digests = new Set<string>();
    for (const each of sources) {
      expect(await readRecords(each, 'train')).toEqual(expected);
      digests.add((await readDigested(each, null)).digest);
    }
    expect(digests.size).toBe(1);
  });

  it('reads plain text as one record a line without labels', async () => {
    const plain = await source('one\r\n\ntwo\n', 'txt', { labelled: false });
    expect(await readRecords(plain, 'train')).toEqual([
      { text: 'one', label: -1 },
      { text: 'two', label: -1 },
    ]);
    const labelled = await source('one\n', 'txt');
    expect((await fault(readRecords(labelled, 'train'))).code).toBe('DATA_COLUMN_MISSING');
  });

  it('reads the records of a generate artifact by label name', async () => {
    await writeFile(join(folder, 'labels.json'), '["bad","good"]');
    await writeFile(
      join(folder, 'synthetic.jsonl'),
      jsonl([
        { text: 'a', label: 'good' },
        { text: 'b', label: 'bad' },
      ]),
    );
    expect(await readSynthetic(folder)).toEqual([
      { text: 'a', label: 1 },
      { text: 'b', label: 0 },
    ]);
  });

  it('reads 50,000 records and their digest in well under two seconds', async () => {
    const many = Array.from({ length: 50_000 }, (_, index) => ({
      review: `sentence ${index} ${'of a usual length '.repeat(8)}`,
      stars: index % 2 ? 'good' : 'bad',
    }));
    const large = await source(jsonl(many), 'jsonl');
    const start = performance.now();
    await readDigested(large, null);
    expect(performance.now() - start).toBeLessThan(2_000);
  });
});

describe('faults of public and benchmark data', () => {
  it('names line and byte offset of the first byte that is not UTF-8', async () => {
    const bytes = Buffer.concat([Buffer.from('{"review":"é'), Buffer.from([0xe9]), Buffer.from('"}\n')]);
    const error = await fault(readRecords(await source(Buffer.concat([Buffer.from('\n'), bytes]), 'jsonl'), 'train'));
    expect(error.code).toBe('DATA_ENCODING');
    expect(error.message).toMatch(/byte 0xe9 at line 2, offset 14$/);
    expect(error.position).toMatchObject({ line: 2, column: 14 });
  });

  it.each([
    ['an overlong form', [0xc0, 0xaf]],
    ['a surrogate', [0xed, 0xa0, 0x80]],
    ['a sequence cut short', [0xe2, 0x82]],
    ['a value above U+10FFFF', [0xf4, 0x90, 0x80, 0x80]],
  ])('refuses %s', async (_, bytes) => {
    const error = await fault(
      readRecords(await source(Buffer.from([0x61, ...bytes]), 'txt', { labelled: false }), 'train'),
    );
    expect(error.message).toMatch(/line 1, offset 1$/);
  });

  it('suggests the column that was meant', async () => {
    for (const [content, format] of [
      [csv, 'csv'],
      [jsonl(rows), 'jsonl'],
    ] as const) {
      const error = await fault(readRecords({ ...(await source(content, format)), text: 'revew' }, 'train'));
      expect(error.code).toBe('DATA_COLUMN_MISSING');
      expect(error.hint).toContain('Did you mean "review"?');
    }
  });

  it('reports every invalid record of a split with its place, up to five', async () => {
    const bad = await source(jsonl([...rows, { review: 7, stars: 'bad' }, { review: 'x', stars: 'great' }]), 'jsonl');
    const faults = await inspectDataset(bad);
    expect(faults.map((each) => [each.code, each.position?.line])).toEqual([
      ['DATA_RECORD_INVALID', 4],
      ['DATA_RECORD_INVALID', 5],
    ]);
    expect(faults[1]!.hint).toContain('"bad", "good"');
  });

  it.each([
    ['an empty file', 'DATA_EMPTY', '', 'jsonl'],
    ['a header alone', 'DATA_EMPTY', 'review,stars\n', 'csv'],
    [
      'blank texts',
      'DATA_EMPTY',
      jsonl([
        { review: ' ', stars: 'bad' },
        { review: '', stars: 'good' },
      ]),
      'jsonl',
    ],
    [
      'one class',
      'DATA_ONE_CLASS',
      jsonl([
        { review: 'a', stars: 'bad' },
        { review: 'b', stars: 'bad' },
      ]),
      'jsonl',
    ],
    ['a broken line', 'DATA_UNREADABLE', '{"review": "a", "stars"', 'jsonl'],
    ['an open quote', 'DATA_UNREADABLE', 'review,stars\n"a,bad\n', 'csv'],
    ['no Parquet', 'DATA_UNREADABLE', 'PAR1', 'parquet'],
  ] as const)('refuses %s with %s', async (_, code, content, format) => {
    expect((await fault(readRecords(await source(content, format), 'train'))).code).toBe(code);
  });

  it('refuses a missing file, a missing split and broken compression', async () => {
    const good = await source(csv, 'csv');
    const missing = { ...good, files: { train: { ...good.files.train!, path: join(folder, 'none.csv') } } };
    expect((await fault(readRecords(missing, 'train'))).code).toBe('DATA_FILE_MISSING');
    expect((await inspectDataset(missing)).map((each) => each.code)).toEqual(['DATA_FILE_MISSING']);
    expect((await fault(readRecords(good, 'test'))).message).toContain('no test split');
    const broken = await source('no gzip', 'csv', { compression: 'gzip' });
    expect((await fault(readRecords(broken, 'train'))).code).toBe('DATA_UNREADABLE');
  });
});

describe('private data', () => {
  const secretText = 'the-secret-of-row';
  const broken = Buffer.concat([
    Buffer.from(
      jsonl([
        { review: `${secretText}-1`, stars: 'good' },
        { review: secretText, stars: secretText },
      ]),
    ),
    Buffer.from(`{"review": "${secretText}", "stars": \n`),
    Buffer.from([0xff, 10]),
    Buffer.from(jsonl([{ other: secretText }])),
  ]);
  const empty = { text: '', label: 0 };

  it('reads each invalid record as the fixed empty one and reports nothing', async () => {
    const hidden = await source(broken, 'jsonl', { sensitivity: 'private' });
    const records = [{ text: `${secretText}-1`, label: 1 }, empty, empty, empty, empty];
    expect(await readRecords(hidden, 'train')).toEqual(records);
    expect(await inspectDataset(hidden)).toEqual([]);
    expect((await inspectDataset(hidden, { inspectPrivate: true })).map((each) => each.code)).toEqual([
      'DATA_ENCODING',
    ]);
  });

  it('shows no cell when a header is missing, and has no one-class check', async () => {
    const headless = await source(`${secretText},good\n`, 'csv', { sensitivity: 'private' });
    const error = await fault(readRecords(headless, 'train'));
    expect(error.code).toBe('DATA_COLUMN_MISSING');
    expect(`${error.message} ${error.hint}`).not.toContain(secretText);
    const cells = Buffer.concat([
      Buffer.from('review,stars\na,good\nb'),
      Buffer.from([0xe9]),
      Buffer.from(',good\nc\n'),
    ]);
    const oneClass = await source(cells, 'csv', { sensitivity: 'private' });
    expect(await readRecords(oneClass, 'train')).toEqual([{ text: 'a', label: 1 }, empty, empty]);
  });

  describe.each(['\n', '\r\n'])('in lines that end with %j', (end) => {
    const base = Array.from({ length: 9 }, (_, row) => `"text, ${row}",${row % 2 === 0 ? 'good' : 'bad'}`);
    const recordsOf = async (lines: string[]): Promise<unknown[]> =>
      readRecords(await source(['review,stars', ...lines, ''].join(end), 'csv', { sensitivity: 'private' }), 'train');

    it.each([
      ['an open quote', '"my text,good', empty],
      ['an open quote in its last cell', 'my text,"good', empty],
      ['a quote inside', 'my "text",good', { text: 'my "text"', label: 1 }],
      ['text after a quote', '"my" text,good', empty],
      ['doubled quotes', '"my ""text""",good', { text: 'my "text"', label: 1 }],
      ['an empty cell', ',good', { text: '', label: 1 }],
      ['half of a record', '"my text', empty],
      ['one quote', '"', empty],
      ['three quotes', '"'.repeat(3), empty],
      ['too many cells', 'a,b,c', empty],
      ['a carriage return', 'a\rb,good', { text: 'a\rb', label: 1 }],
      ['what is fine', 'my text,good', { text: 'my text', label: 1 }],
    ])('a line with %s is a record of its own and changes no other one', async (_, line, record) => {
      const others = await recordsOf(base);
      expect(others).toHaveLength(base.length);
      for (const place of [0, 4, base.length]) {
        expect(await recordsOf(base.toSpliced(place, 0, line))).toEqual(others.toSpliced(place, 0, record));
      }
    });

    it('are those of the file as a whole where each record is a line', async () => {
      const open = await source(['review,stars', ...base, ''].join(end), 'csv');
      expect(await recordsOf(base)).toEqual(await readRecords(open, 'train'));
    });
  });

  it('with line breaks in cells are named by --inspect', async () => {
    const cut = await source('review,stars\n"one\ntwo",good\nthree,bad\n', 'csv', { sensitivity: 'private' });
    expect(await readRecords(cut, 'train')).toEqual([empty, { text: 'two"', label: 1 }, { text: 'three', label: 0 }]);
    const [found] = await inspectDataset(cut, { inspectPrivate: true });
    expect(found).toMatchObject({ code: 'DATA_RECORD_INVALID', position: { line: 3 } });
    expect(found!.message).toContain('holds a line break');
    expect(await inspectDataset({ ...cut, sensitivity: 'benchmark' })).toEqual([]);
  });

  it('are read whatever the number of lines that are none', async () => {
    const lines = Array.from({ length: 50_000 }, (_, row) => (row % 50 === 0 ? '"open,good' : `text ${row},bad`));
    const many = await source(['review,stars', ...lines].join('\n'), 'csv', { sensitivity: 'private' });
    const records = await readRecords(many, 'train');
    expect(records.filter(({ text }) => text === '')).toHaveLength(1000);
    expect(records).toHaveLength(50_000);
  });

  it('is named by a digest under a secret only', async () => {
    const hidden = await source(csv, 'csv', { sensitivity: 'private' });
    expect((await fault(readDigested(hidden, null))).code).toBe('ARGUMENT_INVALID');
    const keyed = (await readDigested(hidden, Buffer.alloc(32, 1))).digest;
    expect(keyed).toMatch(/^[0-9a-f]{64}$/);
    expect(keyed).not.toBe((await readDigested(hidden, Buffer.alloc(32, 2))).digest);
    expect(keyed).not.toBe((await readDigested({ ...hidden, sensitivity: 'benchmark' }, null)).digest);
  });
});

describe('digests', () => {
  it('change with a record, its label, the order and the class names, and not with column names', async () => {
    const digest = async (each: DatasetSource): Promise<string> => (await readDigested(each, null)).digest;
    const base = await source(jsonl(rows), 'jsonl');
    const changed = [
      base,
      await source(jsonl([...rows].reverse()), 'jsonl'),
      await source(jsonl(rows.slice(0, 2)), 'jsonl'),
      { ...base, label: { column: 'stars', values: ['bad', 'good', 'mixed'] } },
    ];
    expect(new Set(await Promise.all(changed.map(digest))).size).toBe(changed.length);
    const renamed = await source(jsonl(rows).replaceAll('"review"', '"text"'), 'jsonl');
    expect(await digest({ ...renamed, text: 'text' })).toBe(await digest(base));
  });

  it('tell when a planned dataset has changed', async () => {
    const base = await source(csv, 'csv');
    const planned = { ...base, privacy: null, digest: (await readDigested(base, null)).digest };
    expect((await readPlanned(planned, null)).train).toEqual(await readRecords(base, 'train'));
    await writeFile(base.files.train!.path, csv.replace('kalt', 'warm'));
    expect((await fault(readPlanned(planned, null))).code).toBe('DATA_CHANGED');
  });
});
