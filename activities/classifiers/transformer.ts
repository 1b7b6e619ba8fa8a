/** @file Classifiers of the family `transformer`: a pre-trained model with a linear layer on its hidden states. */

import { privateSchedule } from '../../learning/classifier/private-training.ts';
import { disposeTree } from '../../learning/compile/index.ts';
import { readCheckpoint, writeCheckpoint, type CheckpointIdentity } from '../../learning/dp/checkpoint.ts';
import { bytesOf, microbatchesAtOnce, microbatchShapes } from '../../learning/dp/memory.ts';
import { usualAdam, zeroState } from '../../learning/dp/optimisers.ts';
import type { EncodedRecord, MicrobatchShape } from '../../learning/dp/sequences.ts';
import { Trainer } from '../../learning/dp/trainer.ts';
import { callsAtOnce } from '../../learning/machine.ts';
import type { Schedule } from '../../learning/schedule.ts';
import { readRecord, readTransformer, type BaseTransformer } from '../../learning/transformer/base.ts';
import { splitRecords, trainToBest } from '../../learning/transformer/early-stopping.ts';
import { ClassPredictor } from '../../learning/transformer/predictor.ts';
import {
  checkFinite,
  initialValues,
  trainedParameters,
  type Parameter,
  type TrainedValues,
  type TunedShape,
} from '../../learning/tuning/parameters.ts';
import { seededStream } from '../../privacy/noise.ts';
import type { MechanismProof } from '../../schemas/artifact.ts';
import type { PlanDataset, PoissonGaussianMechanism, TrainingMechanism } from '../../schemas/plan.ts';
import type { TransformerParams } from '../../schemas/step-params.ts';
import { baseModel, checkFit, contentOf } from '../base-model.ts';
import { computation } from '../computation.ts';
import type { JobContext } from '../job.ts';
import { noiseSecret } from '../reserved-mechanism.ts';
import { trainingHooks } from '../training-hooks.ts';
import { noised, type ClassifierTraining, type TrainedClassifier } from './training.ts';

/** Records tokenised between two breaths. */
const recordsABreath = 2_000;

type Training = ClassifierTraining<TransformerParams>;

/** A model that is about to be trained. */
interface Start {
  base: BaseTransformer;
  /** Digest of the base model's numbers. */
  content: string;
  tuned: TunedShape;
  parameters: Parameter[];
  initial: TrainedValues;
  records: EncodedRecord[];
  predictor: ClassPredictor;
}

async function readRecords({ records, params, context }: Training, base: BaseTransformer): Promise<EncodedRecord[]> {
  const read: EncodedRecord[] = [];
  for (const record of records) {
    read.push(readRecord(base, record, params));
    if (read.length % recordsABreath !== 0) continue;
    context.progress({ phase: 'index', done: read.length, total: records.length, unit: 'records' });
    await context.breathe();
  }
  return read;
}

async function begin(training: Training): Promise<Start> {
  const { input, params, context, classes } = training;
  const { method, sequence, seed } = params;
  const named = await baseModel(input);
  const content = await contentOf(named);
  context.progress({ phase: 'load', done: 0, total: 1, unit: 'models' });
  const base = await readTransformer(named.path);
  checkFit(base.config, base.vocabulary, { sequence, prompt: 0 });
  const { lr: _, ...shape } = method;
  const tuned: TunedShape = { ...shape, classes: 0, head: { classes } };
  const parameters = trainedParameters(base.config, tuned);
  const given = parameters.filter(({ group }) => group === 'weights');
  const own = Object.fromEntries(given.map(({ name }) => [name, base.weights[name]!.dataSync() as Float32Array]));
  const draw = seededStream(seed, 'transformer initialisation');
  const initial = initialValues(parameters, own, () => draw.uniform());
  const predictor = new ClassPredictor(base.config, tuned, { sequence, padId: base.padId });
  return { base, content, tuned, parameters, initial, records: await readRecords(training, base), predictor };
}

/** Weights that training leaves as they are. */
const frozenOf = ({ base, tuned }: Start): BaseTransformer['weights'] => (tuned.kind === 'full' ? {} : base.weights);

interface Course {
  schedule: Schedule;
  mechanism: TrainingMechanism;
  secret: { key: Buffer; nodeKey: string } | null;
  records: readonly EncodedRecord[];
  layout: readonly MicrobatchShape[];
}

function trainerOf({ params }: Training, start: Start, { records, layout, ...course }: Course): Trainer {
  const { base, content, tuned } = start;
  const memory = bytesOf(params.memory);
  const settings = {
    ...course,
    config: base.config,
    tuned,
    optimizer: usualAdam,
    unboundedBatch: {
      samplingProbability: Math.min(1, params.batch / Math.max(1, records.length)),
      expectedBatchSize: params.batch,
      seed: params.seed,
    },
    layout,
    atOnce: microbatchesAtOnce(base.config, tuned, layout, { memory, most: callsAtOnce() }),
    padId: base.padId,
    machine: computation(),
    base: content,
  };
  return new Trainer(settings, frozenOf(start), records);
}

const allowedLayout = ({ params }: Training, { base, tuned }: Start): MicrobatchShape[] =>
  microbatchShapes(base.config, tuned, { sequence: params.sequence, memory: bytesOf(params.memory) });

const compiling =
  (context: JobContext) =>
  async ({ time }: MicrobatchShape): Promise<void> => {
    context.progress({ phase: 'compile', done: time, total: time, unit: 'tokens' });
    await context.breathe();
  };

async function trainWithDp(
  training: Training,
  start: Start,
  { dataset, mechanism }: { dataset: PlanDataset; mechanism: PoissonGaussianMechanism },
): Promise<{ values: TrainedValues; proof: MechanismProof }> {
  const { input, context, params } = training;
  const { parameters, initial, records, content } = start;
  const { node, checkpointDirectory: directory } = input;
  const { steps } = mechanism;
  const identity: CheckpointIdentity = {
    nodeKey: node.key,
    mechanismDigest: node.privacy?.digest ?? null,
    base: content,
  };
  const resumed = await readCheckpoint(directory, { parameters, steps }, identity);
  // With noise, other microbatches would make every step since the checkpoint another one, which is charged.
  const layout = resumed?.layout ?? allowedLayout(training, start);
  const state = resumed ?? { step: 0, values: initial, ...zeroState(initial) };
  const schedule = privateSchedule({ lr: params.method.lr, steps });
  const secret = await noiseSecret(input);
  const trainer = trainerOf(training, start, { schedule, mechanism, secret, records, layout });
  const checkpoint = (): Promise<void> =>
    writeCheckpoint(directory, parameters, state, { ...identity, layout }, () => context.checkFence());
  const hooks = trainingHooks(context, { steps, dataset, mechanism, checkpoint, interval: params.checkpoint });
  try {
    const proof = await trainer.train(state, { ...hooks, compiling: compiling(context) });
    return { values: state.values, proof: proof! };
  } finally {
    trainer.dispose();
  }
}

/** Steps of warm-up as a share of all. */
const warmupShare = 0.05;

async function trainWithoutDp(training: Training, start: Start): Promise<TrainedValues> {
  const { params, context, classes } = training;
  const { records: all, initial, predictor } = start;
  const { training: records, validation } = splitRecords(all, params.seed);
  const batches = Math.max(1, Math.ceil(records.length / params.batch));
  const steps = params.epochs * batches;
  const schedule: Schedule = {
    ...privateSchedule({ lr: params.method.lr, steps }),
    warmup: Math.ceil(steps * warmupShare),
  };
  const layout = allowedLayout(training, start);
  const course = { schedule, mechanism: { kind: 'unbounded' } as const, secret: null, records, layout };
  const trainer = trainerOf(training, start, course);
  try {
    return await trainToBest(
      trainer,
      initial,
      validation,
      { steps, batches, classes },
      (values, into) => predictor.evaluate(validation, values, frozenOf(start), into, false),
      {
        compiling: compiling(context),
        breathe: () => context.breathe(),
        async between({ step, microbatch, of }) {
          // Not in steps: how many there are would tell how many records a private dataset has.
          const done = (step + microbatch / of) * params.batch;
          context.progress({ phase: 'train', done, total: steps * params.batch, unit: 'records' });
          await context.breathe();
        },
      },
    );
  } finally {
    trainer.dispose();
  }
}

export async function transformerClassifier(training: Training): Promise<TrainedClassifier> {
  const start = await begin(training);
  const { base, predictor, tuned } = start;
  // What is trained lies in memory of its own.
  if (tuned.kind === 'full') disposeTree(base.weights);
  const withDp = noised(training);
  const { values, proof } = withDp
    ? await trainWithDp(training, start, withDp)
    : { values: await trainWithoutDp(training, start), proof: null };
  checkFinite(values);
  return {
    proof,
    evaluate(texts, into, isApart) {
      const records = texts.map((text) => readRecord(base, { text, label: 0 }, training.params));
      return predictor.evaluate(records, values, frozenOf(start), into, isApart);
    },
    dispose() {
      predictor.dispose();
      if (tuned.kind !== 'full') disposeTree(base.weights);
    },
  };
}
