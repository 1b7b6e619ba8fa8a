/** @file Figures of a `measure` step that take texts as vectors, or the probabilities that a model gives them. */

import { decoderEmbedder, encoderEmbedder, type EmbeddedTexts, type TextEmbedder } from '../learning/text-vectors.ts';
import {
  frechetDistance,
  inManifold,
  mauve,
  meanFigure,
  momentsOf,
  quantise,
  radii,
  resampledFigure,
  resampledRows,
  sharesOf,
  type Figure,
  type Vectors,
} from '../measures/index.ts';
import { seededStream } from '../privacy/noise.ts';
import type { MeasuredRows, Measurement } from '../schemas/measurement.ts';
import type { MeasureParams } from '../schemas/step-params.ts';
import type { JobContext } from './job.ts';
import type { MeasuredSets } from './measure-sets.ts';

/** Resamples behind the error of a Fréchet distance: each takes two eigenvalue decompositions. */
const mostFrechetResamples = 20;
/** Milliseconds between two looks at the event loop. */
const stride = 200;

/** A model of the plan, or what a pre-training step made. */
export interface NamedModel {
  name: string;
  path: string;
}

export interface MeasuringModels {
  decoder: NamedModel | null;
  encoder: NamedModel | null;
}

type SetName = MeasuredRows | 'reference';

/** All sets as one model sees them. */
async function embedSets(
  embedder: TextEmbedder,
  sets: MeasuredSets,
  context: JobContext,
): Promise<Map<SetName, EmbeddedTexts>> {
  const { synthetic, ceiling, train, reference } = sets;
  const named = { synthetic, ceiling, ...(train && { train }), reference };
  const total = Object.values(named).reduce((sum, records) => sum + records.length, 0);
  const found = new Map<SetName, EmbeddedTexts>();
  let before = 0;
  try {
    for (const [name, records] of Object.entries(named)) {
      const report = async (done: number): Promise<void> => {
        context.progress({ phase: 'embed', done: before + done, total, unit: 'records' });
        await context.breathe();
      };
      const texts = records.map(({ text }) => text);
      found.set(name as SetName, await embedder.embed(texts, report));
      before += records.length;
    }
    return found;
  } finally {
    embedder.dispose();
  }
}

/** Runs work that takes minutes, with the event loop in between. */
async function whole<T>(work: Generator<void, T>, context: JobContext): Promise<T> {
  let looked = Date.now();
  for (let next = work.next(); ; next = work.next()) {
    if (next.done === true) return next.value;
    if (Date.now() - looked < stride) continue;
    context.progress({ phase: 'evaluate', done: 0, total: 1, unit: 'sets' });
    await context.breathe();
    looked = Date.now();
  }
}

const vectorsOf = ({ dim, vectors }: EmbeddedTexts): Vectors => ({ dim, values: vectors });

/** MAUVE, Fréchet distance, precision and recall of one set against the reference. */
async function vectorFigures(
  name: string,
  sets: { set: EmbeddedTexts; reference: EmbeddedTexts },
  { seed, resamples }: MeasureParams,
  context: JobContext,
): Promise<Record<string, Figure>> {
  const [set, reference] = [vectorsOf(sets.set), vectorsOf(sets.reference)];
  const stream = seededStream(seed, `vectors: ${name}`);
  const uniform = (): number => stream.uniform();
  const rows = set.values.length / set.dim;
  const draw = (): Int32Array => resampledRows(rows, uniform);

  const { first, second, clusters } = await whole(quantise(set, reference, uniform), context);
  const mauveOf = (picks: Int32Array | null, others: Int32Array | null): number =>
    mauve(sharesOf(first, clusters, picks), sharesOf(second, clusters, others));
  const mauves = Array.from({ length: resamples }, () => mauveOf(draw(), draw()));

  const distances: number[] = [];
  for (let round = 0; round < Math.min(resamples, mostFrechetResamples); round++) {
    distances.push(frechetDistance(momentsOf(set, draw()), momentsOf(reference, draw())));
    context.progress({ phase: 'resample', done: round, total: mostFrechetResamples, unit: 'resamples' });
    await context.breathe();
  }
  const precise = await whole(inManifold(set, reference, await whole(radii(reference), context)), context);
  const recalled = await whole(inManifold(reference, set, await whole(radii(set), context)), context);
  return {
    mauve: resampledFigure(mauveOf(null, null), mauves),
    frechetDistance: resampledFigure(frechetDistance(momentsOf(set), momentsOf(reference)), distances),
    precision: meanFigure(precise),
    recall: meanFigure(recalled),
  };
}

/** exp of the nats a token: what a text's tokens are a choice of, as the model sees it. Of all texts of a set together. */
function perplexity(name: string, { loss }: EmbeddedTexts, { seed, resamples }: MeasureParams): Figure {
  const { nats, tokens } = loss!;
  const stream = seededStream(seed, `perplexity: ${name}`);
  const of = (picks: Iterable<number>): number => {
    let [sum, count] = [0, 0];
    for (const pick of picks) {
      sum += nats[pick]!;
      count += tokens[pick]!;
    }
    return Math.exp(sum / count);
  };
  const resampled = Array.from({ length: resamples }, () => of(resampledRows(nats.length, () => stream.uniform())));
  return resampledFigure(of(nats.keys()), resampled);
}

const noVectors = 'it takes vectors of texts: give the step a `model` or an `encoder`';
const noModel = 'it takes a decoder: give the step a `model`';

/** All figures that models have a part in. */
export async function measureVectors(
  sets: MeasuredSets,
  { decoder, encoder }: MeasuringModels,
  params: MeasureParams,
  context: JobContext,
): Promise<Pick<Measurement, 'measures' | 'leftOut' | 'vectors'>> {
  const measures: Measurement['measures'] = {};
  const add = (measure: string, name: MeasuredRows, figure: Figure): void => {
    (measures[measure] ??= {})[name] = figure;
  };
  context.progress({ phase: 'load', done: 0, total: 1, unit: 'models' });
  const read = decoder && (await embedSets(await decoderEmbedder(decoder.path, params.sequence), sets, context));
  const given = encoder ? await embedSets(await encoderEmbedder(encoder.path, params.sequence), sets, context) : read;
  const names = (['synthetic', 'ceiling', 'train'] as const).filter((name) => sets[name] !== null);
  for (const name of names) {
    if (read) add('perplexity', name, perplexity(name, read.get(name)!, params));
    if (!given) continue;
    const pair = { set: given.get(name)!, reference: given.get('reference')! };
    for (const [measure, figure] of Object.entries(await vectorFigures(name, pair, params, context))) {
      add(measure, name, figure);
    }
  }
  const leftOut: Record<string, string> = {};
  if (!given) for (const name of ['mauve', 'frechetDistance', 'precision', 'recall']) leftOut[name] = noVectors;
  if (!read) leftOut['perplexity'] = noModel;
  return { measures, leftOut, vectors: vectorsInWords({ decoder, encoder }) };
}

const vectorsInWords = ({ decoder, encoder }: MeasuringModels): string | null =>
  encoder
    ? `means of the last hidden states of the encoder ${encoder.name}, scaled to length 1`
    : decoder && `means of the last hidden states of the decoder ${decoder.name}`;
