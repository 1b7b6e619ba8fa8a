/** @file The code under each step kind: what its file in `activities/` reaches of all that computes results. */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

import { kinds } from '../../compiler/kinds.ts';
import type { StepKind } from '../../schemas/plan.ts';
import { packageRoot } from '../../stack/paths.ts';

export interface RecordedKind {
  version: number;
  /** sha256, hex, of the code under the kind. */
  sources: string;
  /** Why stored results are still good although the code changed under this version; null where it has not. */
  reason: string | null;
}

export const recordFile = fileURLToPath(new URL('./kind-sources.json', import.meta.url));

export const recorded = (): Record<string, RecordedKind> =>
  JSON.parse(readFileSync(recordFile, 'utf8')) as Record<string, RecordedKind>;

/** Ledger, accountants, services, store and tracker decide whether a result may be made, not what it is. */
const computes = /^(activities|datasets|learning|measures)\/|^privacy\/[^/]+$/;

/** Without types and comments. */
const codeOf = (file: string): string =>
  ts.transpileModule(readFileSync(file, 'utf8'), {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ESNext, removeComments: true },
  }).outputText;

/** sha256, hex, over the code that the kind's file reaches by imports. */
export function sourcesOf(kind: string): string {
  const found = new Map<string, string>();
  const queue = [join(packageRoot, 'activities', `${kind}.ts`)];
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    const name = relative(packageRoot, file);
    if (found.has(name) || !computes.test(name)) continue;
    const code = codeOf(file);
    found.set(name, code);
    // Imported, or started as a program of its own.
    for (const [, path] of code.matchAll(/(?:from |import\(|new URL\()['"](\.[^'"]+\.ts)['"]/g)) {
      queue.push(resolve(dirname(file), path!));
    }
  }
  const hash = createHash('sha256');
  for (const name of [...found.keys()].sort()) hash.update(`\n${name}\n${found.get(name)}`);
  return hash.digest('hex');
}

export const kindNames = Object.keys(kinds) as StepKind[];
