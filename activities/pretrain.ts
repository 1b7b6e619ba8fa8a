/**
 * @file Step kind `pretrain`: a public corpus to a base model in Hugging Face layout, tokenizer and model card included.
 * Everything follows from the corpus and the seed; a retried attempt goes on from the last checkpoint.
 */

import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { readDecontaminated } from '../datasets/index.ts';
import { disposeTree } from '../learning/compile/index.ts';
import { checkConfig, parameterCount, type DecoderConfig, type LlamaConfig } from '../learning/decoder/config.ts';
import { compilePretrainStep, initialTrainingState, type TrainingState } from '../learning/decoder/training.ts';
import { initialWeights } from '../learning/decoder/weights.ts';
import { writeModelFolder } from '../learning/formats/model-folder.ts';
import { readTokenizer } from '../learning/formats/model.ts';
import { loadPretraining, savePretraining } from '../learning/pretraining/checkpoint.ts';
import { compileEvaluator } from '../learning/pretraining/evaluation.ts';
import { modelCard, type CorpusSource } from '../learning/pretraining/model-card.ts';
import { holdOut, packDocuments, RowSampler, rowCount, takeRows } from '../learning/pretraining/packing.ts';
import { learningRate, type Schedule } from '../learning/schedule.ts';
import { tf, type Tensor } from '../learning/tensorflow.ts';
import { trainBytePairs, writeTokenizer } from '../learning/tokenizer/byte-pair-training.ts';
import { seededStream } from '../privacy/noise.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { PlanDataset } from '../schemas/plan.ts';
import type { PretrainParams } from '../schemas/step-params.ts';
import { CheckpointClock } from './checkpoint-clock.ts';
import { readInput, type JobContext, type JobInput, type StepOutput, type StepRunner } from './job.ts';

const finalLearningRate = 0.1;
const stepsBetweenMetrics = 25;
const beta1 = 0.9;
const beta2 = 0.95;

interface Corpus {
  name: string;
  digest: string;
  documents: string[];
  sources: CorpusSource[];
  /** Datasets that it was decontaminated against. */
  decontaminatedAgainst: string[];
}

async function readCorpus(input: JobInput<'pretrain'>): Promise<Corpus> {
  const made = input.artifacts['corpus']?.[0];
  if (made !== undefined) {
    const { documents, decontamination } = await readDecontaminated(made.directory);
    const { corpus, against } = decontamination;
    const whole = Object.values(input.datasets).find(({ digest }) => digest === corpus.digest);
    return {
      ...{ name: corpus.name, digest: corpus.digest, documents },
      sources: whole ? await sourcesBeside(whole) : [],
      decontaminatedAgainst: [...new Set(against.map(({ dataset }) => dataset))],
    };
  }
  const dataset = corpusOf(input);
  const documents = ((await readInput(input, dataset)).train ?? []).map(({ text }) => text);
  const { name, digest } = dataset;
  return { name, digest, documents, sources: await sourcesBeside(dataset), decontaminatedAgainst: [] };
}

function corpusOf({ node, datasets }: JobInput<'pretrain'>): PlanDataset {
  const input = node.inputs['corpus'];
  const dataset = input && 'dataset' in input ? datasets[input.dataset] : undefined;
  if (dataset === undefined) {
    throw new EpsilonflowError('STEP_FAILED', `Step ${node.id} has no input dataset "corpus".`);
  }
  if (dataset.sensitivity !== 'public') {
    throw new EpsilonflowError('STEP_FAILED', `The corpus ${dataset.name} is not public; a base model must be.`, {
      hint: 'Pre-train on public text and fine-tune on private text with epsilon.',
    });
  }
  return dataset;
}

/** Sources and licences from `manifest.json` beside the corpus, if that manifest is about this very file. */
async function sourcesBeside(corpus: PlanDataset): Promise<CorpusSource[]> {
  const file = corpus.files.train?.path;
  if (file === undefined) return [];
  try {
    const manifest = JSON.parse(await readFile(join(dirname(file), 'manifest.json'), 'utf8')) as {
      file?: { sha256?: string };
      sources?: Record<string, Omit<CorpusSource, 'name'>>;
    };
    const digest = createHash('sha256')
      .update(await readFile(file))
      .digest('hex');
    if (manifest.file?.sha256 !== digest) return [];
    return Object.entries(manifest.sources ?? {}).map(([name, source]) => ({ ...source, name }));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return [];
    throw error;
  }
}

function configOf(params: PretrainParams, vocab: number): LlamaConfig {
  if (params.sequence > params.architecture.context) {
    throw new EpsilonflowError(
      'STEP_FAILED',
      'Rows of `sequence` tokens do not fit in the context of the architecture.',
      {
        hint: `Set sequence to at most ${params.architecture.context}.`,
      },
    );
  }
  return checkConfig({ family: 'llama', ...params.architecture, vocab, ropeTheta: 10_000, rmsEps: 1e-5, tied: true });
}

interface TrainingJob {
  input: JobInput<'pretrain'>;
  context: JobContext;
  config: DecoderConfig;
  stream: Int32Array;
  steps: number;
}

/** Trains from the last checkpoint on; returns the final state, which the caller disposes. */
async function train({ input, context, config, stream, steps }: TrainingJob): Promise<TrainingState> {
  const { batch, sequence, lr, seed } = input.node.params;
  const directory = input.checkpointDirectory;
  const identity = { owner: input.node.key, config };
  const saved = await loadPretraining(directory, identity, steps);
  const random = seededStream(seed, 'initial weights');
  const fresh = (): TrainingState =>
    initialTrainingState(
      config,
      initialWeights(config, (out, deviation) => random.fillGaussian(out, deviation)),
    );
  let state = saved?.state ?? fresh();
  context.progress({ phase: 'compile', done: 0, total: 1, unit: 'programs' });
  const run = compilePretrainStep(config, { batch, sequence, beta1, beta2, weightDecay: 0, clipNorm: 1 });
  const warmup = Math.round(steps * input.node.params.warmup);
  const schedule: Schedule = { lr, warmup, decay: 'cosine', finalLr: finalLearningRate, steps };
  const sampler = new RowSampler(rowCount(stream, sequence), batch, seed);
  let lossSum = 0;
  let lossCount = 0;
  const clock = new CheckpointClock(input.node.params.checkpoint);
  for (let step = saved?.step ?? 0; step < steps; step++) {
    const packed = takeRows(stream, sampler.rowsOf(step), sequence);
    const rate = learningRate(schedule, step);
    const given = {
      tokens: tf.tensor(packed.tokens, [batch, sequence + 1], 'int32') as Tensor,
      mask: tf.tensor(packed.mask, [batch, sequence]) as Tensor,
      learningRate: tf.scalar(rate) as Tensor,
      correction1: tf.scalar(1 - beta1 ** (step + 1)) as Tensor,
      correction2: tf.scalar(1 - beta2 ** (step + 1)) as Tensor,
    };
    const { state: next, loss, gradientNorm } = run({ state, ...given });
    const nats = loss.dataSync()[0] as number;
    disposeTree(state);
    tf.dispose([...Object.values(given), loss, gradientNorm]);
    state = next;
    if (!Number.isFinite(nats)) {
      throw new EpsilonflowError('STEP_FAILED', `The loss is not finite after step ${step + 1}.`, {
        hint: 'Lower the learning rate.',
      });
    }
    lossSum += nats;
    lossCount++;
    const done = step + 1;
    if (done % stepsBetweenMetrics === 0 || done === steps) {
      context.metric('training-loss', lossSum / lossCount, done);
      [lossSum, lossCount] = [0, 0];
    }
    context.progress({ phase: 'train', done, total: steps, unit: 'steps' });
    if (done === steps || clock.isDue(done) || context.stopping) {
      await savePretraining(directory, identity, { step: done, state }, () => context.checkFence());
      clock.restart();
    }
    await context.breathe();
  }
  run.dispose();
  return state;
}

export const run: StepRunner<'pretrain'> = async (input, context): Promise<StepOutput> => {
  const { params } = input.node;
  const { batch, sequence } = params;
  context.progress({ phase: 'load', done: 0, total: 1, unit: 'files' });
  const corpus = await readCorpus(input);
  const { documents } = corpus;
  if (documents.length < 2) {
    throw new EpsilonflowError('STEP_FAILED', `The corpus ${corpus.name} has fewer than two documents.`);
  }
  const { training, heldOut } = holdOut(documents, params.validation, params.seed);
  await context.breathe();

  context.progress({ phase: 'index', done: 0, total: training.length, unit: 'documents' });
  await writeTokenizer(input.outputDirectory, trainBytePairs(training, params.vocabulary));
  const tokenizer = await readTokenizer(input.outputDirectory);
  await context.breathe();
  const stream = packDocuments(tokenizer, training);
  const validation = packDocuments(tokenizer, heldOut);
  context.progress({ phase: 'index', done: training.length, total: training.length, unit: 'documents' });
  await context.breathe();

  const config = configOf(params, tokenizer.vocabularySize);
  const steps = Math.max(1, Math.round(params.tokens / (batch * sequence)));
  const state = await train({ input, context, config, stream: stream.tokens, steps });

  const evaluator = compileEvaluator(config, batch, sequence);
  const nats = await evaluator.evaluate(state.weights, validation, async (done, total) => {
    context.progress({ phase: 'evaluate', done, total, unit: 'rows' });
    await context.breathe();
  });
  evaluator.dispose();

  await writeModelFolder(input.outputDirectory, config, state.weights, {
    bosTokenId: tokenizer.bosId,
    eosTokenId: tokenizer.eosId,
  });
  disposeTree(state);
  const parameters = parameterCount(config);
  const tokensSeen = steps * batch * sequence;
  const card = modelCard({
    config,
    parameters,
    dataset: corpus.name,
    datasetDigest: corpus.digest,
    sources: corpus.sources,
    decontaminatedAgainst: corpus.decontaminatedAgainst,
    documents: training.length,
    heldOutDocuments: heldOut.length,
    tokensSeen,
    tokensAvailable: stream.tokens.length,
    steps,
    batch,
    sequence,
    learningRate: params.lr,
    warmup: params.warmup,
    seed: params.seed,
    nats,
  });
  await writeFile(join(input.outputDirectory, 'README.md'), card);
  return {
    metrics: {
      parameters,
      tokens: tokensSeen,
      'validation-nats-per-token': nats.perToken,
      'validation-nats-per-byte': nats.perByte,
    },
  };
};
