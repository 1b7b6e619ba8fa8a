/** A folder with small real data and a model folder, and specs compiled in it by the host that the command line uses. */

import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { offlineHost } from '../../cli/compile-host.ts';
import { compile, type Compiled } from '../../compiler/index.ts';
import { SpecFaults } from '../../schemas/errors.ts';
import type { Plan, PlanNode } from '../../schemas/plan.ts';

export interface Workspace {
  folder: string;
  write(name: string, content: string): string;
  compile(spec: string, profile?: string): Promise<Compiled>;
  plan(spec: string, profile?: string): Promise<Plan>;
  /** `line:column code message` of each fault, or the empty list. */
  faults(spec: string, profile?: string): Promise<string[]>;
  remove(): void;
}

const rows = (texts: string[], labels: string[]): string =>
  texts.map((text, index) => JSON.stringify({ text, label: labels[index % labels.length] })).join('\n') + '\n';

/** @param inGit a git work tree of its own, so that a ledger's marker made here is not one of the clone around it. */
export function openWorkspace({ inGit = true } = {}): Workspace {
  const folder = mkdtempSync(join(tmpdir(), 'epsilonflow spec '));
  if (inGit) mkdirSync(join(folder, '.git'));
  const write = (name: string, content: string): string => {
    const path = join(folder, name);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, content);
    return path;
  };
  write('train.jsonl', rows(['one', 'two', 'three', 'four'], ['neg', 'pos']));
  write('test.jsonl', rows(['five', 'six'], ['neg', 'pos']));
  write('corpus.jsonl', '{"text":"some public text"}\n');
  write('model/config.json', '{"hidden_size":8}');
  write('model/tokenizer.json', '{}');
  write('model/model.safetensors', 'weights');
  const compileText = (spec: string, profile?: string): Promise<Compiled> =>
    compile({ file: write('spec.yaml', spec), profile }, offlineHost());
  return {
    folder,
    write,
    compile: compileText,
    plan: async (spec, profile) => (await compileText(spec, profile)).plan,
    faults: async (spec, profile) => {
      try {
        await compileText(spec, profile);
        return [];
      } catch (error) {
        if (!(error instanceof SpecFaults)) throw error;
        return error.faults.map(
          ({ position, code, message }) =>
            `${position?.line}:${position?.column} ${code} ${message.replaceAll(folder, '')}`,
        );
      }
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** A plan's nodes as text: id, label, inputs, mechanism. */
export function planText({ nodes }: Plan): string {
  return nodes.map(nodeText).join('\n');
}

function nodeText({ id, label, inputs, privacy }: PlanNode): string {
  const sources = Object.entries(inputs).map(([role, input]) => {
    const from = 'dataset' in input ? input.dataset : 'model' in input ? input.model : input.nodes.join(' + ');
    return `${role}: ${from}`;
  });
  const mechanism =
    privacy === undefined
      ? ''
      : privacy.mechanism.kind === 'unbounded'
        ? ' !! unbounded'
        : ` !! epsilon ${privacy.targetEpsilon}, q ${privacy.mechanism.samplingProbability.toPrecision(3)}, ${privacy.mechanism.steps} steps`;
  return `${id} (${label}) <- ${sources.join('; ')}${mechanism}`;
}

/** Lines before the matrix of most specs under test. */
export const preamble = `version: 1
name: trial
datasets:
  reviews:
    files: { train: train.jsonl, test: test.jsonl }
    label: { column: label, values: [neg, pos] }
    sensitivity: benchmark
    privacy: { size: 20000 }
  other:
    files: { train: train.jsonl, test: test.jsonl }
    label: { values: [neg, pos] }
    sensitivity: benchmark
    privacy: { size: 50000 }
models:
  base: { path: model }
`;
