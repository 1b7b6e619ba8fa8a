/**
 * @file Step kind `generate`: synthetic texts from a fine-tuned generator. Sampling reads no private data, so the result
 * keeps the generator's label at no further charge. An attempt that is repeated starts over: it takes a minute.
 */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { labelPrefix, readGenerator, type Generator, type GeneratorDescription } from '../learning/tuning/files.ts';
import { classBias, classInput, classOutput, promptName, trainedParameters } from '../learning/tuning/parameters.ts';
import type { DecoderConfig } from '../learning/decoder/config.ts';
import type { Weights } from '../learning/decoder/weights.ts';
import type { DecodedModel } from '../learning/decoding/block-decoder.ts';
import { mergeAdapter } from '../learning/decoding/merge.ts';
import { TextGenerator, type GeneratedText } from '../learning/decoding/texts.ts';
import { readModel, readTokenizer } from '../learning/formats/model.ts';
import { tf, type Tensor } from '../learning/tensorflow.ts';
import type { Tokenizer } from '../learning/tokenizer/index.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { baseModel, type BaseModel } from './base-model.ts';
import type { GenerateParams } from '../schemas/step-params.ts';
import type { JobContext, JobInput, StepOutput, StepRunner } from './job.ts';

/** A generator that writes an empty text more often than this many times for each text kept is of no use. */
const mostAttemptsPerText = 4;

/** Folder of the generator that a step is given. */
export function generatorFolder({ node, artifacts }: Pick<JobInput, 'node' | 'artifacts'>): string {
  const folder = artifacts['generator']?.[0]?.directory;
  if (folder === undefined) throw new EpsilonflowError('STEP_FAILED', `Step ${node.id} has no generator.`);
  return folder;
}

/** @throws EpsilonflowError MODEL_INVALID when the generator was trained on another base model */
function checkBase({ base }: GeneratorDescription, { name, digest }: BaseModel): void {
  if (base.digest === digest) return;
  throw new EpsilonflowError('MODEL_INVALID', `The generator was trained on another base model than ${name}.`, {
    hint: 'Restore the base model, or run the spec again for a new generator.',
  });
}

/** Ids fed before a text, one list a label; data without labels has one. */
function prefixesOf(tokenizer: Tokenizer, { conditioning, dataset, labels }: GeneratorDescription): number[][] {
  const names: (string | undefined)[] = labels.length > 0 ? labels : [undefined];
  return names.map((name) => (conditioning === 'prefix' ? [...tokenizer.encode(labelPrefix(dataset, name))] : []));
}

/** The base model with what was trained worked into it. */
function decodedModel(config: DecoderConfig, base: Weights, { tuned, values }: Generator): DecodedModel {
  const tensors: Record<string, Tensor> = {};
  for (const { name, shape } of trainedParameters(config, tuned)) tensors[name] = tf.tensor(values[name]!, shape);
  const tables = tuned.classes > 0 ? [classInput, classOutput, classBias] : [];
  const conditioning = Object.fromEntries(tables.map((name) => [name, tensors[name]!]));
  switch (tuned.kind) {
    case 'lora':
      return { config, weights: mergeAdapter(config, base, tuned, tensors).weights, conditioning, prompt: null };
    case 'prompt':
      return { config, weights: base, conditioning, prompt: tensors[promptName]! };
    case 'full':
      tf.dispose(Object.values(base));
      return { config, weights: tensors, conditioning, prompt: null };
  }
}

/** Ids of tokens that a step bans. @throws EpsilonflowError STEP_FAILED for a text of several tokens */
function bannedIds(tokenizer: Tokenizer, texts: readonly string[]): number[] {
  return texts.map((text) => {
    const ids = tokenizer.encode(text);
    if (ids.length === 1) return ids[0]!;
    throw new EpsilonflowError('STEP_FAILED', `banned: ${JSON.stringify(text)} is ${ids.length} tokens, not one.`, {
      hint: 'Only single tokens can be banned; a space in front of a word is part of its token.',
    });
  });
}

function checkPositions({ config, prompt }: DecodedModel, prefixes: readonly number[][], maxTokens: number): void {
  const positions = (prompt?.shape[0] ?? 0) + Math.max(...prefixes.map((prefix) => prefix.length)) + maxTokens;
  if (positions <= config.context) return;
  throw new EpsilonflowError(
    'STEP_FAILED',
    `A text takes up to ${positions} positions; the model has ${config.context}.`,
    {
      hint: 'Lower `maxTokens` of the generate step.',
    },
  );
}

interface Collected {
  kept: GeneratedText[];
  empty: number;
}

/** Decodes rows until `count` texts are there; rows are taken in their order, empty ones left out. */
async function collect(generator: TextGenerator, count: number, context: JobContext): Promise<Collected> {
  const kept: GeneratedText[] = [];
  let empty = 0;
  const report = async (): Promise<void> => {
    context.progress({ phase: 'generate', done: kept.length, total: count, unit: 'records' });
    await context.breathe();
  };
  for await (const row of generator.texts(0, () => count - kept.length, report)) {
    if (row.text.trim() !== '') kept.push(row);
    else if (++empty > mostAttemptsPerText * count + 1_000) {
      throw new EpsilonflowError('STEP_FAILED', `${empty} of ${row.row + 1} generated texts were empty.`, {
        hint: 'The generator has not learned to write texts; train it for longer or with a larger epsilon.',
      });
    }
  }
  await report();
  return { kept, empty };
}

/** Texts from a generator on its base model. @param read gives the generator, for a base model of that shape */
export async function drawTexts(
  source: BaseModel,
  read: (config: DecoderConfig) => Generator | Promise<Generator>,
  params: GenerateParams,
  context: JobContext,
): Promise<Collected & { labels: readonly string[] }> {
  const { count, temperature, topK, topP, repetitionPenalty, banned, maxTokens, seed } = params;
  context.progress({ phase: 'load', done: 0, total: 1, unit: 'models' });
  const { config, weights: base } = await readModel(source.path);
  const tokenizer = await readTokenizer(source.path);
  const trained = await read(config);
  const { description } = trained;
  checkBase(description, source);
  const model = decodedModel(config, base, trained);
  const prefixes = prefixesOf(tokenizer, description);
  checkPositions(model, prefixes, maxTokens);

  context.progress({ phase: 'compile', done: 0, total: 1, unit: 'programs' });
  await context.breathe();
  const generator = new TextGenerator({
    model,
    tokenizer,
    prefixes,
    maxTokens,
    rules: { temperature, topK: topK ?? null, topP, repetitionPenalty },
    banned: bannedIds(tokenizer, banned),
    seed,
  });
  const collected = await collect(generator, count, context);
  generator.dispose();
  tf.dispose([base, model.weights, model.conditioning, model.prompt] as never);
  return { ...collected, labels: description.labels };
}

export const run: StepRunner<'generate'> = async (input, context): Promise<StepOutput> => {
  const read = (config: DecoderConfig): Promise<Generator> => readGenerator(generatorFolder(input), config);
  const { kept, empty, labels } = await drawTexts(await baseModel(input), read, input.node.params, context);
  context.progress({ phase: 'write', done: 0, total: kept.length, unit: 'records' });
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
