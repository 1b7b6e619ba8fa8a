/**
 * @file Step kind `finetune`: trains a public base model, or an adapter or prompt for it, on a dataset, with DP unless
 * epsilon is inf.
 */

import type { TextRecord } from '../datasets/index.ts';
import { labelPrefix, writeGenerator, type Generator } from '../learning/tuning/files.ts';
import {
  checkFinite,
  initialValues,
  promptName,
  sizeOf,
  trainedParameters,
  type Parameter,
  type TrainedValues,
  type TunedShape,
} from '../learning/tuning/parameters.ts';
import { initialPrompt } from '../learning/tuning/prompt.ts';
import { disposeTree } from '../learning/compile/index.ts';
import { zeroState } from '../learning/dp/optimisers.ts';
import {
  readCheckpoint,
  writeCheckpoint,
  type CheckpointIdentity,
  type TrainingState,
} from '../learning/dp/checkpoint.ts';
import { callsAtOnce } from '../learning/machine.ts';
import { bytesOf, isWithin, microbatchesAtOnce, microbatchShapes } from '../learning/dp/memory.ts';
import { encodeRecord, type EncodedRecord, type MicrobatchShape } from '../learning/dp/sequences.ts';
import { Trainer, unmovedGroups } from '../learning/dp/trainer.ts';
import { copyTokenizer, readModel, readTokenizer, type Model } from '../learning/formats/model.ts';
import { baseModel, checkFit, contentOf, type BaseModel } from './base-model.ts';
import { computation } from './computation.ts';
import type { DecoderConfig } from '../learning/decoder/config.ts';
import type { Tokenizer } from '../learning/tokenizer/index.ts';
import { seededStream, type KeyedStream } from '../privacy/noise.ts';
import type { MechanismProof } from '../schemas/artifact.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { PlanDataset } from '../schemas/plan.ts';
import { arithmeticOf, type FinetuneParams } from '../schemas/step-params.ts';
import { readInput, type JobContext, type JobInput, type StepOutput, type StepRunner } from './job.ts';
import { noiseSecret, reservedMechanism } from './reserved-mechanism.ts';
import { trainingHooks } from './training-hooks.ts';

/** Records tokenised between two breaths. */
const recordsABreath = 2_000;

/** What a step trains a generator on. @throws EpsilonflowError STEP_FAILED when it has nothing */
export function trainedDataset(input: JobInput): PlanDataset {
  const source = input.node.inputs['data'];
  const dataset = source && 'dataset' in source ? input.datasets[source.dataset] : undefined;
  if (!dataset) throw new EpsilonflowError('STEP_FAILED', `${input.node.id} has no dataset to train on.`);
  return dataset;
}

/** Records as a step's training takes them. */
export async function encodeAll(
  records: readonly TextRecord[],
  tokenizer: Tokenizer,
  params: FinetuneParams,
  dataset: PlanDataset,
  context: JobContext,
): Promise<EncodedRecord[]> {
  const prefixes = new Map<number, Int32Array>();
  const prefixOf = (label: number): Int32Array => {
    if (params.conditioning !== 'prefix') return new Int32Array(0);
    let prefix = prefixes.get(label);
    if (!prefix)
      prefixes.set(label, (prefix = tokenizer.encode(labelPrefix(dataset.name, dataset.label?.values[label]))));
    return prefix;
  };
  const encoded: EncodedRecord[] = [];
  for (const { text, label } of records) {
    const parts = { bosId: tokenizer.bosId, eosId: tokenizer.eosId, text: tokenizer.encode(text), label };
    encoded.push(encodeRecord({ ...parts, prefix: prefixOf(label) }, params.sequence, params));
    if (encoded.length % recordsABreath === 0) {
      context.progress({ phase: 'index', done: encoded.length, total: records.length, unit: 'records' });
      await context.breathe();
    }
  }
  return encoded;
}

/** The microbatches of an earlier attempt where memory allows them still; else what it allows. */
function layoutWithin(
  earlier: readonly MicrobatchShape[] | undefined,
  { config }: Model,
  tuned: TunedShape,
  limits: { sequence: number; memory: number },
): readonly MicrobatchShape[] {
  const allowed = microbatchShapes(config, tuned, limits);
  return earlier && isWithin(earlier, allowed) ? earlier : allowed;
}

/** What the method trains. @param labels of the dataset */
function tunedShape({ method, conditioning }: FinetuneParams, labels: readonly string[]): TunedShape {
  const classes = conditioning === 'class-bias' ? labels.length : 0;
  switch (method.kind) {
    case 'lora':
      return { kind: 'lora', rank: method.rank, alpha: method.alpha, targets: method.targets, classes };
    case 'prompt':
      return { kind: 'prompt', length: method.length, classes };
    case 'full':
      return { kind: 'full', classes };
  }
}

/** Values before training, by parameter. */
function startOf(
  parameters: readonly Parameter[],
  { method }: FinetuneParams,
  { config, weights }: Model,
  tokenizer: Tokenizer,
  draw: KeyedStream,
): Record<string, Float32Array> {
  const given: Record<string, Float32Array> = {};
  if (method.kind === 'full') {
    for (const { name, group } of parameters) {
      if (group === 'weights') given[name] = weights[name]!.dataSync() as Float32Array;
    }
  } else if (method.kind === 'prompt') {
    const { length, init } = method;
    const ids = typeof init === 'object' ? tokenizer.encode(init.text) : init;
    given[promptName] = initialPrompt(
      config,
      weights,
      { length, init: ids, vocabulary: tokenizer.vocabularySize },
      draw,
    );
  }
  return initialValues(parameters, given, () => draw.uniform());
}

const copyOf = (values: TrainedValues): TrainedValues =>
  Object.fromEntries(Object.entries(values).map(([name, array]) => [name, array.slice()]));

export interface TrainedGenerator {
  generator: Generator;
  base: BaseModel;
  config: DecoderConfig;
  tokenizer: Tokenizer;
  metrics: Record<string, number>;
  /** Null without DP. */
  proof: MechanismProof | null;
}

/**
 * Resumes from a checkpoint and trains to the end of the schedule.
 *
 * @param planted public records that are trained on as if they stood among the dataset's
 */
export async function trainGenerator(
  input: JobInput<'finetune'>,
  context: JobContext,
  planted: readonly TextRecord[] = [],
): Promise<TrainedGenerator> {
  const { node } = input;
  const { params } = node;
  const dataset = trainedDataset(input);
  const base = await baseModel(input);
  const content = await contentOf(base);
  const mechanism = reservedMechanism(input, dataset, { ...params, arithmetic: arithmeticOf(params.method) });
  context.progress({ phase: 'load', done: 0, total: 1, unit: 'models' });
  const model = await readModel(base.path);
  const tokenizer = await readTokenizer(base.path);
  const prompt = params.method.kind === 'prompt' ? params.method.length : 0;
  checkFit(model.config, tokenizer.vocabularySize, { sequence: params.sequence, prompt });
  const { train = [] } = await readInput(input, dataset);
  const records = await encodeAll([...train, ...planted], tokenizer, params, dataset, context);

  const labels = dataset.label?.values ?? [];
  const tuned = tunedShape(params, labels);
  const parameters = trainedParameters(model.config, tuned);
  const identity: CheckpointIdentity = {
    nodeKey: node.key,
    mechanismDigest: mechanism.kind === 'unbounded' ? null : (node.privacy?.digest ?? null),
    base: content,
  };
  const draw = seededStream(params.seed, 'finetune initialisation');
  const initial = startOf(parameters, params, model, tokenizer, draw);
  const resumed = await readCheckpoint(input.checkpointDirectory, { parameters, steps: params.steps }, identity);
  // Values are the weights themselves from here on.
  if (tuned.kind === 'full') disposeTree(model.weights);
  const limits = { sequence: params.sequence, memory: bytesOf(params.memory) };
  // With noise, other microbatches would make every step since the checkpoint another one, which is charged.
  const layout =
    resumed && mechanism.kind !== 'unbounded' ? resumed.layout : layoutWithin(resumed?.layout, model, tuned, limits);
  const state: TrainingState = resumed ?? { step: 0, values: copyOf(initial), ...zeroState(initial) };

  const size = dataset.privacy?.size ?? records.length;
  const trainer = new Trainer(
    {
      config: model.config,
      tuned,
      optimizer: params.optimizer,
      schedule: { ...params, lr: params.method.lr },
      mechanism,
      unboundedBatch: {
        samplingProbability: Math.min(1, params.batch / size),
        expectedBatchSize: params.batch,
        seed: params.seed,
      },
      secret: mechanism.kind === 'unbounded' ? null : await noiseSecret(input),
      layout,
      atOnce: microbatchesAtOnce(model.config, tuned, layout, { memory: limits.memory, most: callsAtOnce() }),
      padId: tokenizer.eosId,
      machine: computation(),
      base: content,
    },
    tuned.kind === 'full' ? {} : model.weights,
    records,
  );
  const checkpoint = (): Promise<void> =>
    writeCheckpoint(input.checkpointDirectory, parameters, state, { ...identity, layout }, () => context.checkFence());
  let proof: MechanismProof | null;
  try {
    proof = await trainer.train(state, {
      ...trainingHooks(context, { steps: params.steps, dataset, mechanism, checkpoint, interval: params.checkpoint }),
      compiling: async (shape) => {
        context.progress({ phase: 'compile', done: shape.time, total: shape.time, unit: 'tokens' });
        await context.breathe();
      },
    });
  } finally {
    trainer.dispose();
    if (tuned.kind !== 'full') disposeTree(model.weights);
  }

  checkFinite(state.values);

  const unmoved = unmovedGroups(parameters, initial, state.values);
  if (unmoved.length > 0) {
    throw new EpsilonflowError('STEP_FAILED', `Training did not change ${unmoved.join(' and ')} parameters.`, {
      hint: 'Check the learning rate, the number of steps and that the data hold text.',
    });
  }
  const { conditioning, sequence, method } = params;
  const description = {
    method: method.kind,
    dataset: dataset.name,
    labels,
    conditioning,
    sequence,
    base: { name: base.name, digest: base.digest },
  };
  return {
    generator: { tuned, description, values: state.values },
    ...{ base, config: model.config, tokenizer, proof },
    metrics: { steps: state.step, trainedParameters: parameters.reduce((sum, each) => sum + sizeOf(each), 0) },
  };
}

/** Trains and writes the generator. */
export const run: StepRunner<'finetune'> = async (input, context): Promise<StepOutput> => {
  const { generator, base, config, tokenizer, metrics, proof } = await trainGenerator(input, context);
  context.progress({ phase: 'write', done: 0, total: 1, unit: 'files' });
  const { bosId: bosTokenId, eosId: eosTokenId } = tokenizer;
  await writeGenerator(input.outputDirectory, config, generator, { bosTokenId, eosTokenId });
  if (generator.tuned.kind === 'full') await copyTokenizer(base.path, input.outputDirectory);
  return { metrics, ...(proof && { proof }) };
};
