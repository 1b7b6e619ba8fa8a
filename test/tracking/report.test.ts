import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Discontinuity } from '../../privacy/ledger/index.ts';
import { partsRoot } from '../../stack/paths.ts';
import { resultTable, writeReport } from '../../tracking/report.ts';
import { requires } from '../requires.ts';
import { makeUpRun, ownState, payFor, type MadeUpRun, type Wishes } from './made-up-run.ts';

let removeState: () => void;
beforeEach(() => {
  removeState = ownState();
});
afterEach(() => removeState());

async function reportOf(
  wishes: Wishes,
  lost: Discontinuity[] = [],
): Promise<{ run: MadeUpRun; html: string; markdown: string; path: string }> {
  const run = await makeUpRun(wishes);
  const ledger = await payFor(run);
  await ledger.acknowledge(lost, { author: 'board', reason: 'the disk is lost' });
  const written = await writeReport(run.directory, run.plan, {
    store: run.store,
    ledger: () => Promise.resolve(ledger),
  });
  await ledger.close();
  return {
    run,
    path: written.html,
    html: readFileSync(written.html, 'utf8'),
    markdown: readFileSync(written.markdown, 'utf8'),
  };
}

describe('the table of results', () => {
  it('shows each mean with its interval and n, and the majority class beside', async () => {
    const run = await makeUpRun();
    expect(await resultTable(run.directory, run.plan, run.store)).toMatchInlineSnapshot(`
      "dataset   ε  real-dp                   synthetic                 majority class
      ────────  ─  ────────────────────────  ────────────────────────  ──────────────
      speeches  3  0.791 [0.779, 0.803] n=2  0.703 [0.691, 0.715] n=2  0.538
      speeches  8  0.822 [0.810, 0.834] n=2  0.712 [0.700, 0.724] n=2  0.538
      speeches  ∞  0.889 [0.877, 0.901] n=2  0.731 [0.719, 0.743] n=2  0.538

      Accuracy on real test records. Brackets are 95 % intervals of the mean over n runs (Student's t).

      On speeches at ε = 8, real-dp reaches 0.822 (95 % interval 0.810 to 0.834, n = 2) and synthetic
      reaches 0.712 (95 % interval 0.700 to 0.724, n = 2); always answering the most frequent class would
      reach 0.538. real-dp is ahead of synthetic by 0.110, more than the intervals explain."
    `);
  });

  it('says what an interval of a single run covers', async () => {
    const run = await makeUpRun({ seeds: [1], epsilons: [8] });
    const table = await resultTable(run.directory, run.plan, run.store);
    expect(table).toMatch(/n=1/);
    expect(table.replaceAll('\n', ' ')).toContain('they cover the size of the test set only (Wilson)');
    expect(table.replaceAll('\n', ' ')).toContain('small differences may be chance');
  });

  it('is empty when nothing was compared yet', async () => {
    const run = await makeUpRun({ stopAfter: 4 });
    expect(await resultTable(run.directory, run.plan, run.store)).toBe('');
  });
});

describe('the report', () => {
  it('answers with figures, intervals and what is not told apart', async () => {
    const { markdown } = await reportOf({});
    expect(markdown).toContain('real-dp is ahead of synthetic by 0.110, more than the intervals explain.');
    expect(markdown).toContain('always answering the most frequent class would reach 0.538');
    expect(markdown).toMatch(/What the figures do not cover/);
    expect(markdown).not.toContain('counts whole only from row');
    expect(markdown).toContain('epsilonflow run /home/reviewer/experiments/made-up.yaml');
  });

  it('tells in its privacy statement of spending that the ledger has lost', async () => {
    const lost = { ledger: 'an earlier one', sequence: 7, hash: 'ab', source: 'a note' };
    const { html, markdown } = await reportOf({}, [{ problem: 'exchanged', expected: lost }]);
    const told = /the rows of an earlier ledger are lost, acknowledged by board, because: the disk is lost\./;
    expect(markdown.slice(markdown.indexOf('## Privacy statement'), markdown.indexOf('## Cost'))).toMatch(told);
    expect(html).toMatch(told);
  });

  it('never shows a mean without an interval and its n', async () => {
    const { markdown } = await reportOf({});
    const cells = markdown.match(/\| 0\.[78]\d\d[^|]*/g)!;
    expect(cells.length).toBe(6);
    for (const cell of cells) expect(cell).toMatch(/^\| 0\.\d{3} \\\[0\.\d{3}, 0\.\d{3}\\\] n=2 /);
  });

  it('sets measures of a synthetic set beside those of other test rows, and says that they are exact', async () => {
    const { markdown, html } = await reportOf({ seeds: [1], epsilons: [8], measured: true });
    expect(markdown).toContain('| self-BLEU | 0.713 ± 0.020 | 0.410 ± 0.030 | – |');
    expect(markdown).toContain('it takes training rows');
    expect(markdown).toContain('Measures and audits read records of speeches, exactly');
    expect(html).toContain('0.713 ± 0.020');
    const shut = await reportOf({ name: 'shut', sensitivity: 'private', seeds: [1], epsilons: [8], measured: true });
    expect(shut.markdown).not.toContain('0.713');
    const waived = { waivers: ['measures'], sensitivity: 'private' as const, name: 'waived' };
    const open = await reportOf({ ...waived, seeds: [1], epsilons: [8], measured: true });
    expect(open.markdown).toContain('0.713 ± 0.020');
  });

  it('says of an audit what it found beside what is claimed, where that may leave', async () => {
    const wishes = { seeds: [1], epsilons: [8], measured: true };
    const { markdown } = await reportOf({ name: 'audited', ...wishes });
    expect(markdown).toContain('epsilon is at least 0.375 at delta 1e-10');
    expect(markdown).toContain('The training claims 11.250 at that delta, which is 7.996 at delta 0.0000018.');
    expect(markdown).toContain('| 10 | 2 | 2.75 | 0.500');
    expect(markdown).toMatch(/\| the synthetic set alone \| 0\.531 /);
    const shut = await reportOf({ name: 'audited-privately', sensitivity: 'private', ...wishes });
    expect(shut.markdown).not.toMatch(/at least 0\.375|0\.531/);
  });

  it('says what failed and what could not run for it', async () => {
    const { markdown } = await reportOf({ seeds: [1], failing: ['generator[dataset=speeches,epsilon=3,seed=1]'] });
    expect(markdown).toContain('## What failed');
    expect(markdown).toMatch(/`generator\[dataset=speeches,epsilon=3,seed=1\]` \| failed \| STEP\\_FAILED/);
    expect(markdown).toMatch(/`comparison\[dataset=speeches,epsilon=3\]` \| skipped/);
    expect(markdown).toContain('1 comparison is missing: unfinished or failed.');
  });

  it('keeps figures, messages and rows of private data out', async () => {
    const { html, markdown } = await reportOf({
      ...{ sensitivity: 'private', seeds: [1], epsilons: [3, 8] },
      failing: ['generator[dataset=speeches,epsilon=3,seed=1]'],
    });
    for (const text of [html, markdown]) {
      expect(text).not.toMatch(/0\.822|0\.712|0\.538|my secret/);
      expect(text).toContain('No comparison has finished');
    }
  });

  it('shows model output as text, whatever it holds, and needs no script and no request', async () => {
    const { html, markdown } = await reportOf({});
    expect(html).toContain('&lt;script&gt;alert(1)&lt;/script&gt;');
    expect(html).not.toMatch(/<script/i);
    expect(html).not.toMatch(/(src|href)="http/);
    expect(html).toContain('<svg');
    expect(markdown).toContain('\\<script\\>');
  });

  it('is there before the run has ended', async () => {
    const { markdown } = await reportOf({ stopAfter: 3 });
    expect(markdown).toContain('status: running');
    expect(markdown).toContain('No comparison has finished, so there is no answer yet.');
  });
});

describe.runIf(requires('chromium', 'the report in a browser'))('the report in a browser', () => {
  it('reads at phone and desktop width, light and dark, without errors', async () => {
    const { path } = await reportOf({});
    const shots = join(partsRoot, 'tmp', 'screenshots');
    mkdirSync(shots, { recursive: true });
    const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
    try {
      for (const colorScheme of ['light', 'dark'] as const) {
        for (const width of [360, 1280]) {
          const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
          const problems: string[] = [];
          page.on('console', (message) => problems.push(message.text()));
          page.on('request', (request) => request.url().startsWith('file:') || problems.push(request.url()));
          await page.goto(pathToFileURL(path).href);
          // Wide tables scroll inside themselves; the page does not scroll sideways.
          expect(await page.evaluate('document.documentElement.scrollWidth <= window.innerWidth')).toBe(true);
          const [ink, paper] = (await page.evaluate(
            '[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]',
          )) as [string, string];
          expect(contrast(ink, paper)).toBeGreaterThan(7);
          expect(await page.getByRole('img').count()).toBe(1);
          expect(await page.getByRole('img').getAttribute('aria-label')).toContain('synthetic at epsilon 8: 0.712');
          expect(await page.getByRole('heading', { level: 1 }).count()).toBe(1);
          await page.screenshot({ path: join(shots, `report-${colorScheme}-${width}.png`), fullPage: true });
          expect(problems).toEqual([]);
          await page.close();
        }
      }
    } finally {
      await browser.close();
    }
  });
});

/** WCAG 2.1 contrast ratio of two `rgb(r, g, b)` colours. */
function contrast(a: string, b: string): number {
  const luminance = (colour: string): number => {
    const [red, green, blue] = colour
      .match(/\d+/g)!
      .slice(0, 3)
      .map((part) => Number(part) / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
  };
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (high! + 0.05) / (low! + 0.05);
}
