/** @file Checks a released folder against the evidence in it: its files, its results, its papers. Needs nothing else. */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';

import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { parse } from 'yaml';

import { lineageOf } from '../../schemas/lineage.ts';
import { listFiles, sha256OfFile } from '../../store/disk.ts';
import {
  adapterCard,
  dataCard,
  datasetSnippet,
  statementMarkdown,
  syntheticFacts,
  type AccountStatement,
  type CardFacts,
} from '../release/card.ts';
import { bundleFiles, evidenceFolder, readSums, sumsFile, type Bundle } from './bundle.ts';
import { Findings, type Verdict } from './findings.ts';
import { lossesIn, waiversIn } from './verify-entries.ts';

/** Row of a released set. */
interface Row {
  text: string;
  label?: string;
}

export async function verifyRelease(directory: string, bundle: Bundle): Promise<Verdict> {
  const findings = new Findings();
  const contents = await checkContent(directory, bundle, findings);
  const papers = checkPapers(directory, bundle, findings);
  const evidence = Object.keys(bundleFiles(bundle)).map((file) => `${evidenceFolder}/${file}`);
  await checkSums(directory, new Set([...contents, ...papers, ...evidence]), findings);
  return { checked: findings.checked, mismatches: findings.mismatches };
}

/** Every file is in the folder's digests, and a released folder has no others. */
async function checkSums(directory: string, expected: ReadonlySet<string>, findings: Findings): Promise<void> {
  let sums = new Map<string, string>();
  findings.within('files', sumsFile, () => (sums = readSums(readFileSync(join(directory, sumsFile), 'utf8'))));
  const present = new Set((await listFiles(directory)).filter((file) => file !== sumsFile));
  for (const file of new Set([...expected, ...sums.keys(), ...present])) {
    const digest = present.has(file) ? await sha256OfFile(join(directory, file)) : null;
    const difference =
      digest === null
        ? 'it is missing'
        : !expected.has(file)
          ? 'nothing checks it: a release of this holds no such file'
          : !sums.has(file)
            ? `it is not among the digests of ${sumsFile}`
            : sums.get(file) !== digest
              ? 'it was changed'
              : null;
    findings.add('files', file, difference);
  }
}

/**
 * What was released is what the steps stored, by the digests of their manifests.
 *
 * @returns the files that it should consist of
 */
async function checkContent(directory: string, { evidence, plan }: Bundle, findings: Findings): Promise<string[]> {
  const released = evidence.released ?? [];
  const expected: string[] = [];
  for (const [place, id] of released.entries()) {
    const result = evidence.results.find(({ node }) => node === id);
    const node = lineageOf(plan).node(id);
    if (!result?.files || !node) {
      findings.add('result', id, 'the evidence tells nothing of its files');
      continue;
    }
    const folder = place === 0 ? '' : released.length === 2 ? 'adapter/' : `adapter-${node.slug}/`;
    for (const file of node.kind === 'generate' ? ['synthetic.jsonl'] : Object.keys(result.files)) {
      const path = folder + file;
      expected.push(path);
      // The card of an adapter by itself takes the place of a file of that name.
      if (node.kind === 'finetune' && path === 'README.md') continue;
      const digest = await sha256OfFile(join(directory, path)).catch(() => null);
      findings.add('files', path, digest === result.files[file] ? null : `it is not what ${id} made`);
    }
    if (node.kind !== 'generate') continue;
    await checkParquet(directory, findings);
    expected.push('synthetic.parquet');
  }
  findings.add('result', evidence.run.name, released.length > 0 ? null : 'the evidence is about no released instance');
  return expected;
}

const readRows = (directory: string): Row[] =>
  readFileSync(join(directory, 'synthetic.jsonl'), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Row);

async function checkParquet(directory: string, findings: Findings): Promise<void> {
  const shown = ({ text, label }: Row): [string, string] => [text, label ?? ''];
  let difference: string | null = null;
  try {
    const file = await asyncBufferFromFile(join(directory, 'synthetic.parquet'));
    const rows = (await parquetReadObjects({ file })) as Row[];
    const same = isDeepStrictEqual(rows.map(shown), readRows(directory).map(shown));
    if (!same) difference = 'it has other rows than synthetic.jsonl';
  } catch (error) {
    difference = `it can't be compared with synthetic.jsonl: ${String(error)}`;
  }
  findings.add('files', 'synthetic.parquet', difference);
}

/**
 * Statement and plan are compared by `verifyEvidence`; here, that the papers say the same: each is written again.
 *
 * @returns the files that they should be
 */
function checkPapers(directory: string, { evidence, plan }: Bundle, findings: Findings): string[] {
  const read = (file: string): string => readFileSync(join(directory, file), 'utf8');
  const run = `${evidence.run.name}/${evidence.run.number}`;
  let accounts: AccountStatement[] = [];
  findings.compare('statement', 'privacy-statement.json', () => {
    const {
      accounts: told,
      run: of,
      ...statement
    } = JSON.parse(read('privacy-statement.json')) as {
      accounts: AccountStatement[];
      run: string;
    };
    accounts = told;
    const named = told.map(({ dataset }) => dataset);
    if (!isDeepStrictEqual(named, payingAccounts(evidence))) return 'it tells of other accounts than those that paid';
    const same = of === run && isDeepStrictEqual(statement, JSON.parse(JSON.stringify(evidence.statement)));
    return same ? null : `it says other than ${evidenceFolder}`;
  });
  // What an account has spent in all is the ledger's word; what was lost with an earlier ledger, or waived, is in the rows.
  const losses = lossesIn(evidence.ledger);
  for (const account of accounts) {
    findings.compare('statement', account.dataset, () => {
      const rows = `than the rows of ${evidenceFolder}`;
      const waivers = waiversIn(evidence.ledger, account.dataset);
      if (!isDeepStrictEqual(account.waivers, waivers)) return `it tells of other waivers ${rows}`;
      return isDeepStrictEqual(account.losses, losses) ? null : `it tells of other losses ${rows}`;
    });
  }

  const node = lineageOf(plan).node(evidence.released?.[0] ?? '');
  const facts: CardFacts | null = node ? { plan, node, run, statement: evidence.statement, accounts } : null;
  const papers = facts === null ? {} : writersOf(facts, evidence, directory);
  for (const [file, write] of Object.entries(papers)) {
    findings.compare('statement', file, () =>
      read(file) === write() ? null : 'it says other than statement, plan and rows',
    );
  }
  return ['privacy-statement.json', ...Object.keys(papers)];
}

/** The accounts that paid for what is released, as the rows name them; sorted. */
function payingAccounts({ released, results, ledger }: Bundle['evidence']): string[] {
  const paid = new Set(results.find(({ node }) => node === released?.[0])?.paidBy);
  const rows = ledger.rows.filter(({ kind, entryId }) => kind === 'reserved' && entryId !== null && paid.has(entryId));
  return [...new Set(rows.map(({ account }) => account))].sort();
}

/** How the papers of a released instance are written, by file. */
function writersOf(facts: CardFacts, { results }: Bundle['evidence'], directory: string): Record<string, () => string> {
  const { node } = facts;
  const statement = { 'privacy-statement.md': () => statementMarkdown(facts) };
  if (node.kind === 'finetune') return { ...statement, 'README.md': () => adapterCard(facts) };
  if (node.kind !== 'generate') return statement;
  const synthetic = () => {
    const names = labelsIn(directory);
    const stored = results.find(({ node: id }) => id === node.id)?.files?.['labels.json'];
    if (
      createHash('sha256')
        .update(`${JSON.stringify(names)}\n`)
        .digest('hex') !== stored
    ) {
      throw new Error(`dataset.yaml names other labels than ${node.id} has`);
    }
    return syntheticFacts(
      names,
      readRows(directory).map(({ label }) => label),
    );
  };
  return {
    ...statement,
    'README.md': () => dataCard(facts, synthetic()),
    'dataset.yaml': () => datasetSnippet(facts, synthetic()),
  };
}

/** The labels as `dataset.yaml` names them; the file of them is not released. */
function labelsIn(directory: string): string[] {
  type Snippet = { datasets?: Record<string, { label?: { values?: string[] } }> };
  const { datasets = {} } = parse(readFileSync(join(directory, 'dataset.yaml'), 'utf8')) as Snippet;
  return Object.values(datasets)[0]?.label?.values ?? [];
}
