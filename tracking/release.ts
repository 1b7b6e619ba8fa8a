/**
 * @file Releases a result of a run as a folder that one can hand over: data or model, card, privacy statement, evidence,
 * digests.
 * Only what is labelled `dp` or `public` leaves, and of `dp` only what a committed entry of the ledger pays for.
 */

import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readdir, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { readSynthetic } from '../datasets/index.ts';
import { paymentOf, type CommittedEntry, type Ledger } from '../privacy/ledger/index.ts';
import type { OpenedArtifact } from '../schemas/artifact.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Plan, PlanNode } from '../schemas/plan.ts';
import { listFiles, naming, sha256OfFile, syncPath } from '../store/disk.ts';
import type { Store } from '../store/index.ts';
import { lineageOf } from '../schemas/lineage.ts';
import { bundleFiles, evidenceFolder, sumsFile } from './evidence/bundle.ts';
import { gatherReleaseEvidence } from './evidence/gather.ts';
import { paidEntries } from './evidence/statement-entries.ts';
import {
  accountStatement,
  adapterCard,
  dataCard,
  datasetSnippet,
  statementMarkdown,
  syntheticFacts,
  type CardFacts,
} from './release/card.ts';
import { findInstance } from './release/find-instance.ts';
import type { RunFolder } from './runs.ts';
import { privacyStatement } from './statement.ts';

export interface ReleaseRequest {
  run: RunFolder;
  plan: Plan;
  store: Pick<Store, 'lookup' | 'artifacts'>;
  ledger: Pick<Ledger, 'committedEntries' | 'accountSummary' | 'rowsBehind' | 'identity' | 'head'>;
  /** Id of a plan node, or as much of it as is unique: `synthetic[epsilon=8]`. */
  instance: string;
  /** Folder to make. */
  to: string;
  /** Puts the adapter that wrote a synthetic set beside it. */
  withAdapter?: boolean;
}

export interface Release {
  directory: string;
  instance: string;
  label: 'dp' | 'public';
  /** Relative paths, sorted. */
  files: string[];
  /** The folder was there already, with the same content. */
  unchanged: boolean;
  /** The guarantee by dataset, in words; empty for what is public. */
  datasets: CardFacts['statement']['datasets'];
}

/** Papers depend on what the ledger says today; the rest of a released folder never changes. */
const papers = new Set(['README.md', 'privacy-statement.md', 'privacy-statement.json', sumsFile]);
const isPaper = (file: string): boolean => papers.has(file) || file.startsWith(`${evidenceFolder}/`);

/**
 * Writes a released folder, whole or not at all.
 *
 * @throws EpsilonflowError INSTANCE_UNKNOWN, RELEASE_REFUSED (label, or no committed ledger entry), INPUT_MISSING when
 * there is no result, ARGUMENT_INVALID when the folder holds something else, DISK_FULL.
 */
export async function releaseInstance(request: ReleaseRequest): Promise<Release> {
  const { plan, store, ledger, run } = request;
  const node = findInstance(plan, request.instance);
  const label = releasableLabel(plan, node);
  const artifact = await openResult(store, node);
  const entries = await payment(plan, node, artifact, ledger);
  const statement = privacyStatement(
    plan,
    node,
    paidEntries([...entries.values()].map((entry) => [entry.entryId, entry])),
  );
  // The account may have another name than the dataset: other data with its records came first.
  const payers = [...new Set([...entries.values()].map(({ account }) => account))].sort();
  const summaries = await Promise.all(payers.map((account) => ledger.accountSummary(account)));
  const facts: CardFacts = {
    plan,
    node,
    run: `${run.record.name}/${run.record.number}`,
    statement,
    accounts: summaries.filter((summary) => summary !== null).map(accountStatement),
  };

  const beside = request.withAdapter ? await openAdapters(plan, node, store) : [];
  const bundle = await gatherReleaseEvidence({ run, plan, ledger }, [{ node, artifact }, ...beside], statement);

  const destination = resolve(request.to);
  await mkdir(dirname(destination), { recursive: true });
  const unchanged = await naming(dirname(destination), async () => {
    const staged = await mkdtemp(join(dirname(destination), `.${basename(destination)}.partial-`));
    try {
      await writeContent(staged, facts, artifact);
      await writeAdapters(staged, beside);
      await mkdir(join(staged, evidenceFolder));
      for (const [file, content] of Object.entries(bundleFiles(bundle))) {
        await writeFile(join(staged, evidenceFolder, file), content);
      }
      await writeSums(staged);
      // Made for its owner alone, as temporary folders are; a released one is for everybody.
      await chmod(staged, 0o755);
      return await reveal(staged, destination);
    } finally {
      await rm(staged, { recursive: true, force: true });
    }
  });
  return {
    directory: destination,
    instance: node.id,
    label,
    files: await listFiles(destination),
    unchanged,
    datasets: statement.datasets,
  };
}

/** @throws EpsilonflowError RELEASE_REFUSED, ARGUMENT_INVALID */
function releasableLabel(plan: Plan, node: PlanNode): 'dp' | 'public' {
  const instances = plan.nodes
    .filter((other) => other.label !== 'non-private' && hasContent(other))
    .map(({ id }) => id);
  const hint =
    instances.length === 0
      ? 'Nothing of this run can be released.'
      : `These can be released: ${instances.slice(0, 8).join(', ')}${instances.length > 8 ? ', ...' : ''}.`;
  if (node.label === 'non-private') {
    const sources = lineageOf(plan)
      .behind(node.id)
      .flatMap((behind) =>
        Object.values(behind.inputs).flatMap((input) => ('dataset' in input ? [input.dataset] : [])),
      );
    throw new EpsilonflowError(
      'RELEASE_REFUSED',
      `${node.id} is labelled non-private: it derives from ${[...new Set(sources)].join(', ')} by more than charged DP mechanisms.`,
      { hint },
    );
  }
  if (!hasContent(node)) {
    throw new EpsilonflowError(
      'ARGUMENT_INVALID',
      `${node.id} is a ${node.kind} step: it makes nothing to hand over.`,
      { hint },
    );
  }
  return node.label;
}

const hasContent = ({ kind }: PlanNode): boolean => kind === 'generate' || kind === 'finetune' || kind === 'pretrain';

async function openResult(store: ReleaseRequest['store'], node: PlanNode): Promise<OpenedArtifact> {
  // Read whole, whatever the store remembers of them: files may decay without a trace.
  const [damage] = (await store.artifacts.damagesOf(node.key)) ?? [];
  if (damage) {
    throw new EpsilonflowError(
      'RELEASE_REFUSED',
      `The stored result of ${node.id} is damaged: ${damage.file} ${damage.problem}.`,
      { hint: 'Run the spec again: what is damaged is made anew.' },
    );
  }
  const artifact = await store.lookup(node.key);
  if (!artifact) {
    throw new EpsilonflowError('INPUT_MISSING', `${node.id} has no result in the store.`, {
      hint: 'It has not finished, or it failed: see epsilonflow status. Running the spec again makes what is missing.',
    });
  }
  // What the step itself recorded must agree with the plan: a doctored plan does not open the store.
  if (artifact.manifest.label !== node.label) {
    throw new EpsilonflowError(
      'RELEASE_REFUSED',
      `${node.id} is stored as ${artifact.manifest.label}, not ${node.label}.`,
    );
  }
  return artifact;
}

/** The ledger entries that paid for a result, by the name of the charge. @throws EpsilonflowError RELEASE_REFUSED */
async function payment(
  plan: Plan,
  node: PlanNode,
  { manifest }: OpenedArtifact,
  ledger: ReleaseRequest['ledger'],
): Promise<Map<string, CommittedEntry>> {
  const entries = await paymentOf(ledger, manifest.paidBy, lineageOf(plan).chargesBehind(node.id));
  if (entries) return entries;
  throw new EpsilonflowError(
    'RELEASE_REFUSED',
    `This ledger does not hold the committed entries that paid for ${node.id}.`,
    { hint: 'Release with the ledger of the run: see EPSILONFLOW_LEDGER_URL and `epsilonflow ledger show`.' },
  );
}

async function writeContent(staged: string, facts: CardFacts, artifact: OpenedArtifact): Promise<void> {
  const { node, statement, accounts } = facts;
  const write = (file: string, content: string | Uint8Array): Promise<void> => writeFile(join(staged, file), content);
  if (node.kind === 'generate') {
    const lines = readFileSync(join(artifact.directory, 'synthetic.jsonl'));
    const labelNames = JSON.parse(readFileSync(join(artifact.directory, 'labels.json'), 'utf8')) as string[];
    const records = await readSynthetic(artifact.directory);
    await write('synthetic.jsonl', lines);
    const columns = [
      { name: 'text', data: records.map(({ text }) => text), type: 'STRING' as const },
      { name: 'label', data: records.map(({ label }) => labelNames[label] ?? ''), type: 'STRING' as const },
    ];
    await write(
      'synthetic.parquet',
      new Uint8Array(parquetWriteBuffer({ columnData: labelNames.length > 0 ? columns : columns.slice(0, 1) })),
    );
    const synthetic = syntheticFacts(
      labelNames,
      records.map(({ label }) => labelNames[label]),
    );
    await write('README.md', dataCard(facts, synthetic));
    await write('dataset.yaml', datasetSnippet(facts, synthetic));
  } else {
    await copyFiles(artifact, staged);
    if (node.kind === 'finetune') await write('README.md', adapterCard(facts));
  }
  await write('privacy-statement.md', statementMarkdown(facts));
  await write('privacy-statement.json', JSON.stringify({ ...statement, run: facts.run, accounts }, null, 2) + '\n');
}

interface Adapter {
  node: PlanNode;
  artifact: OpenedArtifact;
}

/** @throws EpsilonflowError ARGUMENT_INVALID when there is none; as `openResult` */
async function openAdapters(plan: Plan, node: PlanNode, store: ReleaseRequest['store']): Promise<Adapter[]> {
  const generators = lineageOf(plan)
    .behind(node.id)
    .filter(({ kind }) => kind === 'finetune');
  if (node.kind !== 'generate' || generators.length === 0) {
    throw new EpsilonflowError('ARGUMENT_INVALID', `${node.id} has no adapter beside it.`, {
      hint: 'Leave out --with-adapter.',
    });
  }
  const adapters: Adapter[] = [];
  for (const generator of generators) {
    // Post-processing of something non-private is non-private itself, so a releasable set has a releasable adapter.
    releasableLabel(plan, generator);
    adapters.push({ node: generator, artifact: await openResult(store, generator) });
  }
  return adapters;
}

async function writeAdapters(staged: string, adapters: readonly Adapter[]): Promise<void> {
  for (const { node, artifact } of adapters) {
    const directory = join(staged, adapters.length === 1 ? 'adapter' : `adapter-${node.slug}`);
    await mkdir(directory);
    await copyFiles(artifact, directory);
  }
}

/** The files that the manifest names, and no others. */
async function copyFiles(artifact: OpenedArtifact, to: string): Promise<void> {
  for (const file of Object.keys(artifact.manifest.files)) {
    await mkdir(dirname(join(to, file)), { recursive: true });
    await cp(join(artifact.directory, file), join(to, file));
  }
}

/** In the form of `sha256sum`, for `sha256sum -c`. */
async function writeSums(directory: string): Promise<void> {
  const files = await listFiles(directory);
  const lines = await Promise.all(files.map(async (file) => `${await sha256OfFile(join(directory, file))}  ${file}\n`));
  await writeFile(join(directory, sumsFile), lines.join(''));
  for (const file of [...files, sumsFile]) await syncPath(join(directory, file));
}

/** Moves a finished folder to its place. True when the same content was there already, which is then left as it is. */
async function reveal(staged: string, destination: string): Promise<boolean> {
  if (existsSync(destination)) {
    if (await sameContent(staged, destination)) return true;
    if (readdirSync(destination).length > 0) {
      throw new EpsilonflowError('ARGUMENT_INVALID', `${destination} exists and holds something else.`, {
        hint: 'Give another folder with --to, or remove that one.',
      });
    }
    await rmdir(destination);
  }
  await rename(staged, destination);
  await syncPath(dirname(destination));
  return false;
}

async function sameContent(staged: string, destination: string): Promise<boolean> {
  const digestsOf = async (directory: string): Promise<string> => {
    const files = (await listFiles(directory)).filter((file) => !isPaper(file));
    const digests = await Promise.all(files.map(async (file) => [file, await sha256OfFile(join(directory, file))]));
    return createHash('sha256').update(JSON.stringify(digests)).digest('hex');
  };
  const present = await readdir(destination).catch(() => [] as string[]);
  return present.includes(sumsFile) && (await digestsOf(staged)) === (await digestsOf(destination));
}
