/**
 * @file Step kind `generate`: synthetic texts from a fine-tuned generator. Sampling reads no private data, so the result
 * keeps the generator's label at no further charge. An attempt that is repeated starts over: it takes a minute.
 */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { labelPrefix, readAdapter, type AdapterDescription } from '../learning/adapter/files.ts';
import { adapterParameters, classBias, classInput, classOutput } from '../learning/adapter/parameters.ts';
import { mergeAdapter } from '../learning/decoding/merge.ts';
import { TextGenerator, type GeneratedText } from '../learning/decoding/texts.ts';
import { readModel, readTokenizer } from '../learning/formats/model.ts';
import { tf, type Tensor } from '../learning/tensorflow.ts';
import type { Tokenizer } from '../learning/tokenizer/index.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { JobContext, JobInput, StepOutput, StepRunner } from './job.ts';

/** A generator that writes an empty text more often than this many times for each text kept is of no use. */
const mostAttemptsPerText = 4;

function generatorFolder({ node, artifacts }: JobInput<'generate'>): string {
  const folder = artifacts['generator']?.[0]?.directory;
  if (folder === undefined) throw new EpsilonflowError('STEP_FAILED', `Step ${node.id} has no generator.`);
  return folder;
}

/** Place of the base model: one that the spec names, or the result of a pre-training step. */
function baseModelPath({ node, models, artifacts }: JobInput<'generate'>): string {
  const input = node.inputs['model'];
  const folder = input && 'model' in input ? models[input.model]?.path : artifacts['model']?.[0]?.directory;
  if (folder === undefined) throw new EpsilonflowError('STEP_FAILED', `Step ${node.id} has no base model.`);
  return folder;
}

/** Ids fed before a text, one list a label; data without labels has one. */
function prefixesOf(tokenizer: Tokenizer, { conditioning, dataset, labels }: AdapterDescription): number[][] {
  const names: (string | undefined)[] = labels.length > 0 ? labels : [undefined];
  return names.map((name) => (conditioning === 'prefix' ? [...tokenizer.encode(labelPrefix(dataset, name))] : []));
}

interface Collected {
  kept: GeneratedText[];
  empty: number;
}

/** Decodes batches until `count` texts are there; rows are taken in their order, empty ones left out. */
async function collect(generator: TextGenerator, count: number, context: JobContext): Promise<Collected> {
  const kept: GeneratedText[] = [];
  let empty = 0;
  let from = 0;
  while (kept.length < count) {
    if (from > mostAttemptsPerText * count + 1_000) {
      throw new EpsilonflowError('STEP_FAILED', `${empty} of ${from} generated texts were empty.`, {
        hint: 'The generator has not learned to write texts; train it for longer or with a larger epsilon.',
      });
    }
    const rows = await generator.batchFrom(from, async () => {
      context.progress({ phase: 'generate', done: kept.length, total: count, unit: 'records' });
      await context.breathe();
    });
    for (const row of rows) {
      if (kept.length === count) break;
      if (row.text.trim() === '') empty++;
      else kept.push(row);
    }
    from += rows.length;
    context.progress({ phase: 'generate', done: kept.length, total: count, unit: 'records' });
  }
  return { kept, empty };
}

export const run: StepRunner<'generate'> = async (input, context): Promise<StepOutput> => {
  const { count, temperature, maxTokens, seed } = input.node.params;
  context.progress({ phase: 'load', done: 0, total: 1, unit: 'models' });
  const path = baseModelPath(input);
  const { config, weights: base } = await readModel(path);
  const tokenizer = await readTokenizer(path);
  const { adapter, description, values } = await readAdapter(generatorFolder(input), config);
  const tensors: Record<string, Tensor> = {};
  for (const { name, shape } of adapterParameters(config, adapter)) tensors[name] = tf.tensor(values[name]!, shape);
  const { weights } = mergeAdapter(config, base, adapter, tensors);
  const tables = adapter.classes > 0 ? [classInput, classOutput, classBias] : [];

  context.progress({ phase: 'compile', done: 0, total: 1, unit: 'programs' });
  await context.breathe();
  const generator = new TextGenerator({
    config,
    weights,
    conditioning: Object.fromEntries(tables.map((name) => [name, tensors[name]!])),
    tokenizer,
    prefixes: prefixesOf(tokenizer, description),
    maxTokens,
    temperature,
    seed,
  });
  const { kept, empty } = await collect(generator, count, context);
  generator.dispose();

  context.progress({ phase: 'write', done: 0, total: kept.length, unit: 'records' });
  const { labels } = description;
  const lines = kept.map(({ text, label }) =>
    JSON.stringify(labels.length > 0 ? { text, label: labels[label] } : { text }),
  );
  await writeFile(join(input.outputDirectory, 'synthetic.jsonl'), lines.map((line) => `${line}\n`).join(''));
  await writeFile(join(input.outputDirectory, 'labels.json'), `${JSON.stringify(labels)}\n`);
  return {
    metrics: {
      records: kept.length,
      empty,
      truncated: kept.filter(({ truncated }) => truncated).length,
      tokens: kept.reduce((sum, { tokens }) => sum + tokens, 0),
    },
    summary: { labels },
  };
};
