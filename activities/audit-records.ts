/** @file What a generator and its synthetic set tell of the records behind them, against test records. */

import type { TextRecord } from '../datasets/index.ts';
import { splitWords } from '../learning/word-cnn/words.ts';
import { BigramModel, membershipFigures } from '../measures/audit/index.ts';
import { commonRuns } from '../measures/overlap/index.ts';
import { seededStream } from '../privacy/noise.ts';
import type { AuditFindings } from '../schemas/audit.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { JobContext } from './job.ts';

export interface AuditedRecords {
  members: TextRecord[];
  others: TextRecord[];
}

/** Shares of test records that may be taken for training records. */
const falseAlarms = [0.01, 0.001];

/** As many training as test records. @throws EpsilonflowError STEP_FAILED when there are too few */
export function drawRecords(
  { train, test }: { train: readonly TextRecord[]; test: readonly TextRecord[] },
  rows: number,
  seed: number,
): AuditedRecords {
  const size = Math.min(rows, train.length, test.length);
  if (size < 2) throw new EpsilonflowError('STEP_FAILED', 'An audit needs at least two training and two test records.');
  const drawn = (records: readonly TextRecord[], role: string): TextRecord[] => {
    const stream = seededStream(seed, `audited rows: ${role}`);
    const keyed = records.map((record) => ({ record, key: stream.uniform() }));
    return keyed
      .sort((a, b) => a.key - b.key)
      .slice(0, size)
      .map(({ record }) => record);
  };
  return { members: drawn(train, 'train'), others: drawn(test, 'test') };
}

/** @param gains nats that a record became cheaper by training: those of the members, then those of the others */
export function modelMembership(gains: Float64Array): AuditFindings['membership']['model'] {
  const size = gains.length / 2;
  return membershipFigures(gains.subarray(0, size), gains.subarray(size), falseAlarms);
}

/** By the synthetic texts alone: records that a model of their word pairs finds likely. */
export function syntheticMembership(
  synthetic: readonly TextRecord[],
  { members, others }: AuditedRecords,
): AuditFindings['membership']['synthetic'] {
  const model = new BigramModel(synthetic.map(({ text }) => splitWords(text)));
  const scores = (records: readonly TextRecord[]): Float64Array =>
    Float64Array.from(records, ({ text }) => model.meanLogProbability(splitWords(text)));
  return membershipFigures(scores(members), scores(others), falseAlarms);
}

export async function longestRuns(
  synthetic: readonly TextRecord[],
  { members, others }: AuditedRecords,
  context: JobContext,
): Promise<AuditFindings['longestRun']> {
  const textsOf = (records: readonly TextRecord[]): string[] => records.map(({ text }) => text);
  const longest = async (records: readonly TextRecord[]): Promise<number> => {
    const runs = await commonRuns(textsOf(synthetic), textsOf(records), 1, async () => {
      context.progress({ phase: 'evaluate', done: 0, total: 1, unit: 'sets' });
      await context.breathe();
    });
    let most = 0;
    for (const { from, to } of runs.inCorpus()) most = Math.max(most, to - from);
    return most;
  };
  return { train: await longest(members), test: await longest(others) };
}
