import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ProtectedText, protectDemoData } from '../../stack/corpora/overlap.ts';
import { detokenise, passages } from '../../stack/corpora/passages.ts';
import { prepareCorpus } from '../../stack/corpora/prepare.ts';
import type { CorpusSource } from '../../stack/corpora/sources.ts';
import { partsRoot } from '../../stack/paths.ts';

describe('passages of public text', () => {
  it('are lower-case sentences of 50 to 600 characters', () => {
    const sentence = 'The river had risen in the night and nobody had seen it. ';
    const found = passages([sentence.repeat(60)]);
    expect(found.length).toBeGreaterThan(5);
    for (const passage of found) {
      expect(passage.length).toBeGreaterThanOrEqual(50);
      expect(passage.length).toBeLessThanOrEqual(600);
      expect(passage).toMatch(/^the river had .* seen it\.$/);
    }
    expect(new Set(found.map(({ length }) => length)).size).toBeGreaterThan(2);
  });

  it('leave out tables, markup, headings and web addresses', () => {
    const kept = 'It was a long and quiet evening by the river, and the boats were coming home.';
    const noise = [
      'CHAPTER IV',
      '| 12 | 34 | 1,900 | 8 |',
      'See <unk> for more of the same.',
      'Go to www.example.org at once.',
    ];
    expect(passages([...noise, kept])).toEqual([kept.toLowerCase()]);
  });

  it('get back the spacing that tokenisers took', () => {
    expect(detokenise("he did n't say , `` come in '' , but 1 @,@ 500 of them did .")).toBe(
      'he didn\'t say, "come in", but 1,500 of them did.',
    );
  });
});

describe('protected text', () => {
  const secret = 'We shall build two hundred miles of new canals before the winter comes again.';

  it('is found as a whole sentence within a passage, whatever its case and signs', () => {
    const guard = new ProtectedText();
    guard.add(secret, false);
    expect(guard.touches(`they met at noon. ${secret.toLowerCase().replace('canals', '"canals"')} nobody spoke.`)).toBe(
      true,
    );
    expect(guard.touches('they met at noon. nobody spoke of canals before the winter.')).toBe(false);
  });

  it('is found by eight consecutive words', () => {
    const guard = new ProtectedText();
    guard.add(secret, true);
    expect(guard.touches('he said: build two hundred miles of new canals before christmas, please.')).toBe(true);
    expect(guard.touches('he said: build two hundred miles of new roads before the winter comes.')).toBe(false);
  });
});

describe('the corpus', () => {
  let folder: string;
  beforeEach(() => (folder = join(mkdtempSync(join(tmpdir(), 'corpus ')), 'corpora')));
  afterEach(() => rmSync(join(folder, '..'), { recursive: true, force: true }));

  it('holds nothing of the demo data, notes its sources, and comes out the same again', () => {
    const row = readFileSync(join(partsRoot, 'data', 'speeches', 'train.jsonl'), 'utf8')
      .split('\n', 200)
      .map((line) => (JSON.parse(line) as { text: string }).text)
      .find((text) => text.split(' ').length > 15)!;
    const own = 'A heron stood in the shallow water all morning and did not move at all.';
    const source: CorpusSource = {
      name: 'made for this test',
      licence: 'none',
      present: () => true,
      *documents() {
        yield [own];
        yield [`${row.charAt(0).toUpperCase()}${row.slice(1)}`];
        yield [own];
      },
    };
    const absent: CorpusSource = { ...source, name: 'not there', present: () => false };
    const guard = new ProtectedText();
    const protection = {
      guard,
      protectedRows: { demo: protectDemoData(guard, join(partsRoot, 'data')), benchmarks: 0 },
    };
    const manifest = prepareCorpus(folder, [source, absent], protection);
    expect(readFileSync(join(folder, 'public.jsonl'), 'utf8')).toBe(`${JSON.stringify({ text: own.toLowerCase() })}\n`);
    expect(manifest).toMatchObject({ absent: ['not there'], dropped: { overlapping: 1, repeated: 1 } });
    expect(manifest.sources['made for this test']).toMatchObject({ passages: 1, licence: 'none' });
    expect(prepareCorpus(folder, [source, absent], protection)).toEqual(manifest);
    expect(readdirSync(folder).sort()).toEqual(['manifest.json', 'public.jsonl']);
    expect(existsSync(`${folder}.partial-${process.pid}`)).toBe(false);
  });
});
