/** @file Checks a released folder against the evidence in it: its files, its results, its papers. Needs nothing else. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';

import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';

import { lineageOf } from '../../schemas/lineage.ts';
import { listFiles, sha256OfFile } from '../../store/disk.ts';
import { statementMarkdown, type AccountStatement } from '../release/card.ts';
import { evidenceFolder, readSums, sumsFile, type Bundle, type ResultEvidence } from './bundle.ts';
import { Findings, type Verdict } from './findings.ts';

export async function verifyRelease(directory: string, bundle: Bundle): Promise<Verdict> {
  const findings = new Findings();
  await checkSums(directory, findings);
  await checkContent(directory, bundle, findings);
  findings.within('statement', directory, () => checkPapers(directory, bundle, findings));
  return { checked: findings.checked, mismatches: findings.mismatches };
}

/** Every file is in the folder's digests, and nothing else is. */
async function checkSums(directory: string, findings: Findings): Promise<void> {
  const sums = readSums(readFileSync(join(directory, sumsFile), 'utf8'));
  const present = new Set((await listFiles(directory)).filter((file) => file !== sumsFile));
  for (const file of new Set([...sums.keys(), ...present])) {
    const digest = present.has(file) ? await sha256OfFile(join(directory, file)) : null;
    const difference =
      digest === null ? 'is missing' : sums.has(file) ? 'was changed' : `is not among the digests of ${sumsFile}`;
    findings.add('files', file, digest !== null && sums.get(file) === digest ? null : `it ${difference}`);
  }
}

/** What was released is what the steps stored, by the digests of their manifests. */
async function checkContent(directory: string, { evidence, plan }: Bundle, findings: Findings): Promise<void> {
  const released = evidence.released ?? [];
  for (const [place, id] of released.entries()) {
    const result = evidence.results.find(({ node }) => node === id);
    const node = lineageOf(plan).node(id);
    if (!result?.files || !node) {
      findings.add('result', id, 'the evidence tells nothing of its files');
      continue;
    }
    const folder = place === 0 ? '' : released.length === 2 ? 'adapter' : `adapter-${node.slug}`;
    for (const file of node.kind === 'generate' ? ['synthetic.jsonl'] : storedFiles(result, node.kind)) {
      const path = folder === '' ? file : `${folder}/${file}`;
      const digest = await sha256OfFile(join(directory, path)).catch(() => null);
      findings.add('files', path, digest === result.files[file] ? null : `it is not what ${id} made`);
    }
    if (node.kind === 'generate') await checkParquet(directory, findings);
  }
  findings.add('result', evidence.run.name, released.length > 0 ? null : 'the evidence is about no released instance');
}

/** The card of an adapter by itself takes the place of a file of that name. */
const storedFiles = ({ files }: ResultEvidence, kind: string): string[] =>
  Object.keys(files ?? {}).filter((file) => kind !== 'finetune' || file !== 'README.md');

async function checkParquet(directory: string, findings: Findings): Promise<void> {
  type Row = { text: string; label?: string };
  const shown = ({ text, label }: Row): [string, string] => [text, label ?? ''];
  let difference: string | null = null;
  try {
    const lines = readFileSync(join(directory, 'synthetic.jsonl'), 'utf8').trimEnd().split('\n');
    const file = await asyncBufferFromFile(join(directory, 'synthetic.parquet'));
    const rows = (await parquetReadObjects({ file })) as Row[];
    const same = isDeepStrictEqual(
      rows.map(shown),
      lines.map((line) => shown(JSON.parse(line) as Row)),
    );
    if (!same) difference = 'it has other rows than synthetic.jsonl';
  } catch (error) {
    difference = `it can't be compared with synthetic.jsonl: ${String(error)}`;
  }
  findings.add('files', 'synthetic.parquet', difference);
}

/** Statement and plan are compared by `verifyEvidence`; here, that the papers say the same. */
function checkPapers(directory: string, { evidence }: Bundle, findings: Findings): void {
  const { accounts, run, ...statement } = JSON.parse(
    readFileSync(join(directory, 'privacy-statement.json'), 'utf8'),
  ) as { accounts: AccountStatement[]; run: string };
  const named = `${evidence.run.name}/${evidence.run.number}`;
  const same = run === named && isDeepStrictEqual(statement, JSON.parse(JSON.stringify(evidence.statement)));
  findings.add('statement', 'privacy-statement.json', same ? null : `it says other than ${evidenceFolder}`);
  const written = statementMarkdown({ statement: evidence.statement, accounts, run });
  const text = readFileSync(join(directory, 'privacy-statement.md'), 'utf8');
  findings.add('statement', 'privacy-statement.md', text === written ? null : 'it says other than the statement');
}
