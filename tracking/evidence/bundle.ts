/**
 * @file The evidence of a run as a folder that one can hand over: what was asked (spec), planned (plan), charged (rows of
 * the ledger with the proofs of what was done) and claimed (privacy statement). `verify.ts` recomputes it.
 */

import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

import type { ChainedRow } from '../../privacy/ledger/index.ts';
import type { ArtifactCharge } from '../../schemas/artifact.ts';
import { canonicalJson } from '../../schemas/canonical-json.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import type { Label, NodeCharge, Plan } from '../../schemas/plan.ts';
import { naming, syncPath } from '../../store/disk.ts';
import type { RunRecord } from '../runs.ts';
import type { PrivacyStatement } from '../statement.ts';

/** Raise when the files below change their meaning. */
export const bundleVersion = 6;

/** A finished result of the run. */
export interface ResultEvidence {
  node: string;
  key: string;
  label: Label;
  /** What its manifest says of the mechanisms behind it. */
  privacy: NodeCharge[];
  /** Ids of all ledger entries behind it, sorted. */
  paidBy: string[];
  /** What its own step did, by charge; in whatever run that was. */
  charges: Omit<ArtifactCharge, 'workflowId'>[];
  /** sha256 by relative path; null where even digests of the content must stay. */
  files: Record<string, string> | null;
}

export interface Evidence {
  bundleVersion: typeof bundleVersion;
  /** Version of the program that gathered it. */
  madeBy: string;
  run: Omit<RunRecord, 'specFile'>;
  /** Ids of the released instances that it is about, the one asked for first; null: the whole run. */
  released: string[] | null;
  ledger: {
    identity: string;
    /** Newest row when the evidence was gathered. */
    head: { sequence: number; hash: string };
    /** Rows of the entries that the run reserved or rests on, and of their accounts, in order, without private payloads. */
    rows: ChainedRow[];
  };
  /** What the run's event log says has finished, whether or not its result is still there; of a release what it holds. */
  completed: { node: string; key: string | null }[];
  results: ResultEvidence[];
  statement: PrivacyStatement;
}

export interface Bundle {
  evidence: Evidence;
  plan: Plan;
  /** The spec as the run read it. */
  spec: string;
}

export const sumsFile = 'SHA256SUMS';

/** Where a released folder has its evidence. */
export const evidenceFolder = 'evidence';

/** The files of a bundle. */
const bundleNames: ReadonlySet<string> = new Set(['evidence.json', 'plan.json', 'spec.yaml', sumsFile]);

/** Content of a bundle's files by name. */
export function bundleFiles({ evidence, plan, spec }: Bundle): Record<string, string> {
  const files = {
    'evidence.json': JSON.stringify(evidence, null, 2) + '\n',
    'plan.json': canonicalJson(plan) + '\n',
    'spec.yaml': spec,
  };
  return { ...files, [sumsFile]: sumsOf(files) };
}

const sha256 = (content: string | Buffer): string => createHash('sha256').update(content).digest('hex');

/** In the form of `sha256sum`, for `sha256sum -c`. */
const sumsOf = (files: Record<string, string>): string =>
  Object.entries(files)
    .map(([name, content]) => `${sha256(content)}  ${name}\n`)
    .join('');

/** Digests by file, of a text like that of `sha256sum`. */
export const readSums = (text: string): Map<string, string> =>
  new Map(
    text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => [line.slice(66), line.slice(0, 64)]),
  );

/**
 * Writes a bundle, whole or not at all.
 *
 * @throws EpsilonflowError ARGUMENT_INVALID when the folder holds something, DISK_FULL, STORE_READ_ONLY
 */
export async function writeBundle(bundle: Bundle, to: string): Promise<string[]> {
  const destination = resolve(to);
  const all = bundleFiles(bundle);
  return naming(dirname(destination), async () => {
    await mkdir(dirname(destination), { recursive: true });
    if (existsSync(destination)) {
      if ((await readdir(destination)).length > 0) {
        throw new EpsilonflowError('ARGUMENT_INVALID', `${destination} exists and is not empty.`, {
          hint: 'Give another folder with --to, or remove that one.',
        });
      }
      await rmdir(destination);
    }
    const staged = await mkdtemp(join(dirname(destination), `.${basename(destination)}.partial-`));
    try {
      for (const [name, content] of Object.entries(all)) {
        await writeFile(join(staged, name), content);
        await syncPath(join(staged, name));
      }
      await rename(staged, destination);
      await syncPath(dirname(destination));
    } finally {
      await rm(staged, { recursive: true, force: true });
    }
    return Object.keys(all).sort();
  });
}

/**
 * Reads a bundle and checks its files against their digests.
 *
 * @throws EpsilonflowError BUNDLE_INVALID when a file is missing, changed, of another version or none of a bundle's
 */
export function readBundle(directory: string): Bundle {
  const invalid = (what: string, cause?: unknown): EpsilonflowError =>
    new EpsilonflowError('BUNDLE_INVALID', `${directory} is no whole bundle of evidence: ${what}.`, {
      cause,
      hint: 'Ask for it again: `epsilonflow export RUN --to FOLDER` makes one.',
    });
  const read = (name: string): string => {
    try {
      return readFileSync(join(directory, name), 'utf8');
    } catch (error) {
      throw invalid(`${name} can't be read`, error);
    }
  };
  const sums = readSums(read(sumsFile));
  // What lies beside evidence must not seem to be checked by it.
  const foreign = [...new Set([...readdirSync(directory), ...sums.keys()])].find((name) => !bundleNames.has(name));
  if (foreign !== undefined) throw invalid(`${foreign} is no file of a bundle`);
  const checked = (name: string): string => {
    const content = read(name);
    if (sums.get(name) !== sha256(content)) throw invalid(`${name} is not what ${sumsFile} says`);
    return content;
  };
  const parsed = <T>(name: string): T => {
    const content = checked(name);
    try {
      return JSON.parse(content) as T;
    } catch (error) {
      throw invalid(`${name} is no JSON`, error);
    }
  };
  const bundle = {
    evidence: parsed<Evidence>('evidence.json'),
    plan: parsed<Plan>('plan.json'),
    spec: checked('spec.yaml'),
  };
  const { evidence } = bundle;
  const version: unknown = isObject(evidence) ? evidence.bundleVersion : undefined;
  if (version !== bundleVersion)
    throw invalid(`its version is ${String(version)}, this program reads ${bundleVersion}`);
  const lacking = lackingPart(bundle);
  if (lacking !== undefined) throw invalid(`it has no ${lacking}`);
  return bundle;
}

const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null && !Array.isArray(value);

/** The parts that every check takes for granted; what is in them is the checks' matter. */
function lackingPart({ evidence, plan }: Bundle): string | undefined {
  const parts: [string, boolean][] = [
    ['version of its program', typeof evidence.madeBy === 'string'],
    ['run', isObject(evidence.run)],
    ['word on what was released', evidence.released === null || Array.isArray(evidence.released)],
    ['ledger', isObject(evidence.ledger) && typeof evidence.ledger.identity === 'string'],
    ['head of the ledger', isObject(evidence.ledger?.head)],
    ['rows', Array.isArray(evidence.ledger?.rows)],
    ['list of what was completed', Array.isArray(evidence.completed)],
    ['results', Array.isArray(evidence.results)],
    ['statement', isObject(evidence.statement)],
    ['plan', isObject(plan)],
    ['nodes', Array.isArray(plan?.nodes)],
    ...(['spec', 'datasets', 'models', 'privacy'] as const).map((part): [string, boolean] => [
      `${part} in its plan`,
      isObject(plan?.[part]),
    ]),
  ];
  return parts.find(([, isThere]) => !isThere)?.[0];
}
