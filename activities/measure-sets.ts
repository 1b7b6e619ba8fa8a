/** @file All figures of a `measure` step from its sets of records. */

import type { TextRecord } from '../datasets/index.ts';
import { splitWords } from '../learning/word-cnn/words.ts';
import {
  meanFigure,
  NearTextIndex,
  resampledFigure,
  resampledRows,
  selfBleu,
  SetCounter,
  trainNaiveBayes,
  type CountedSet,
} from '../measures/index.ts';
import { seededStream } from '../privacy/noise.ts';
import type { MeasuredRows, Measurement } from '../schemas/measurement.ts';
import type { MeasureParams } from '../schemas/step-params.ts';
import type { JobContext } from './job.ts';

export interface MeasuredSets {
  synthetic: readonly TextRecord[];
  /** Test rows that all are held against. */
  reference: readonly TextRecord[];
  /** Other test rows. */
  ceiling: readonly TextRecord[];
  /** Null when the real dataset has no train split. */
  train: readonly TextRecord[] | null;
  /** All training rows, in which copies are sought and which the judge of labels learns from. */
  wholeTrain: readonly TextRecord[];
  /** Of the real records, when the synthetic ones have the same; null otherwise. */
  classes: readonly string[] | null;
}

/** Rows between two looks at the event loop. */
const stride = 500;

class Measuring {
  readonly measures: Measurement['measures'] = {};
  readonly #sets: MeasuredSets;
  readonly #params: MeasureParams;
  readonly #context: JobContext;

  constructor(sets: MeasuredSets, params: MeasureParams, context: JobContext) {
    this.#sets = sets;
    this.#params = params;
    this.#context = context;
  }

  /** The sets that are measured, with their names. */
  get #measured(): [MeasuredRows, readonly TextRecord[]][] {
    const { synthetic, ceiling, train } = this.#sets;
    return [['synthetic', synthetic], ['ceiling', ceiling], ...(train ? [['train', train] as const] : [])].map(
      ([name, records]) => [name as MeasuredRows, records as readonly TextRecord[]],
    );
  }

  #add(name: string, set: MeasuredRows, figure: { value: number; error: number }): void {
    (this.measures[name] ??= {})[set] = figure;
  }

  /** Divergences from the reference and variety, with resamples of both sets. */
  async counted(): Promise<void> {
    const { reference, classes } = this.#sets;
    const counter = new SetCounter(classes?.length ?? 0);
    const count = (records: readonly TextRecord[]): CountedSet =>
      counter.count(
        records.map(({ text }) => splitWords(text)),
        records.map(({ label }) => label),
      );
    const held = count(reference);
    const counted = this.#measured.map(([name, records]) => [name, count(records)] as const);
    for (const [name, set] of counted) await this.#resample(name, counter, set, held);
  }

  async #resample(name: MeasuredRows, counter: SetCounter, set: CountedSet, held: CountedSet): Promise<void> {
    const { resamples, seed } = this.#params;
    const stream = seededStream(seed, `resampled rows: ${name}`);
    const draw = (): Int32Array => resampledRows(set.size, () => stream.uniform());
    const seen: Record<string, number[]> = {};
    for (let round = 0; round < resamples; round++) {
      const figures = counter.compare(set, held, { set: draw(), reference: draw() });
      for (const [measure, value] of Object.entries(figures)) (seen[measure] ??= []).push(value);
      await this.#step('resample', round, resamples, 'resamples');
    }
    for (const [measure, value] of Object.entries(counter.compare(set, held))) {
      this.#add(measure, name, resampledFigure(value, seen[measure]!));
    }
  }

  async repetition(): Promise<void> {
    for (const [name, records] of this.#measured) {
      const words = records.map(({ text }) => splitWords(text));
      this.#add('selfBleu', name, meanFigure(selfBleu(words)));
      await this.#step('evaluate', 0, 1, 'sets');
      const seen = new Set<string>();
      const repeated = records.map(({ text }) => {
        const known = seen.has(text.trim());
        seen.add(text.trim());
        return Number(known);
      });
      this.#add('duplicates', name, meanFigure(repeated));
      this.#add('nearDuplicates', name, meanFigure(await this.#nearRepeats(words.map((each) => each.join(' ')))));
    }
  }

  /** For each text whether an earlier one is nearly the same. */
  async #nearRepeats(texts: readonly string[]): Promise<number[]> {
    const index = new NearTextIndex(texts, this.#params.similarity);
    const found: number[] = [];
    for (const [row, text] of texts.entries()) {
      found.push(Number(index.near(text)[0]! < row));
      if (row % stride === 0) await this.#step('evaluate', row, texts.length, 'records');
    }
    return found;
  }

  /** Copies of training rows. What test rows have of them is chance, or stock phrases. */
  async copies(): Promise<void> {
    const { wholeTrain } = this.#sets;
    if (wholeTrain.length === 0) return;
    const exact = new Set(wholeTrain.map(({ text }) => text.trim()));
    for (const [name, records] of this.#measured) {
      if (name === 'train') continue;
      this.#add('trainCopies', name, meanFigure(records.map(({ text }) => Number(exact.has(text.trim())))));
      const index = new NearTextIndex(
        records.map(({ text }) => splitWords(text).join(' ')),
        this.#params.similarity,
      );
      const near = new Uint8Array(records.length);
      for (const [row, { text }] of wholeTrain.entries()) {
        for (const found of index.near(splitWords(text).join(' '))) near[found] = 1;
        if (row % stride === 0) await this.#step('evaluate', row, wholeTrain.length, 'records');
      }
      this.#add('nearTrainCopies', name, meanFigure(near));
    }
  }

  /** Whether a classifier that has learned from training rows finds the label that a row has. */
  async labels(): Promise<void> {
    const { wholeTrain, classes } = this.#sets;
    if (classes === null || wholeTrain.length === 0) return;
    const judge = trainNaiveBayes(
      wholeTrain.map(({ text }) => splitWords(text)),
      wholeTrain.map(({ label }) => label),
      classes.length,
    );
    await this.#step('evaluate', 0, 1, 'sets');
    for (const [name, records] of this.#measured) {
      if (name === 'train') continue;
      const right = records.map(({ text, label }) => Number(judge.classify(splitWords(text)) === label));
      this.#add('labelFidelity', name, meanFigure(right));
    }
  }

  async #step(phase: string, done: number, total: number, unit: string): Promise<void> {
    this.#context.progress({ phase, done, total, unit });
    await this.#context.breathe();
  }
}

function leftOutOf({ classes, wholeTrain }: MeasuredSets): Record<string, string> {
  const leftOut: Record<string, string> = {};
  if (classes === null) leftOut['labelDistance'] = 'the synthetic and the real records have no classes in common';
  if (wholeTrain.length === 0) {
    leftOut['trainCopies'] = leftOut['nearTrainCopies'] = 'the real dataset has no train split';
  }
  if (classes === null || wholeTrain.length === 0) {
    leftOut['labelFidelity'] = 'it takes training rows with the classes of the synthetic ones';
  }
  return leftOut;
}

export async function measureSets(
  sets: MeasuredSets,
  params: MeasureParams,
  context: JobContext,
): Promise<Omit<Measurement, 'vectors'>> {
  const measuring = new Measuring(sets, params, context);
  await measuring.counted();
  await measuring.repetition();
  await measuring.copies();
  await measuring.labels();
  return {
    rows: sets.reference.length,
    resamples: params.resamples,
    measures: measuring.measures,
    leftOut: leftOutOf(sets),
  };
}
