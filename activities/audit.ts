/**
 * @file Step kind `audit`: what can be got back of the records behind a synthetic set. Its generator is trained once more
 * with canaries among the records, and charged once more; the generator and the set themselves are held against training
 * and test records.
 */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { readSynthetic, type TextRecord } from '../datasets/index.ts';
import { disposeTree } from '../learning/compile/index.ts';
import type { DecoderConfig } from '../learning/decoder/config.ts';
import { readModel, type Model } from '../learning/formats/model.ts';
import { readGenerator, type Generator } from '../learning/tuning/files.ts';
import { RecordLosses } from '../learning/tuning/record-losses.ts';
import type { Weights } from '../learning/decoder/weights.ts';
import type { Tokenizer } from '../learning/tokenizer/index.ts';
import { auditOneRun, exposure, type OneRunAudit } from '../measures/audit/index.ts';
import { clopperPearson } from '../measures/index.ts';
import { composedEpsilon } from '../privacy/accounting/index.ts';
import { mechanismEvent } from '../privacy/ledger/admission.ts';
import type { AuditedRepetition, AuditFindings } from '../schemas/audit.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { PlanDataset, PlanNode } from '../schemas/plan.ts';
import { drawCanaries, plantedRecords, type Canaries } from './audit-canaries.ts';
import {
  drawRecords,
  longestRuns,
  modelMembership,
  syntheticMembership,
  type AuditedRecords,
} from './audit-records.ts';
import { encodeAll, trainedDataset, trainGenerator, type TrainedGenerator } from './finetune.ts';
import { drawTexts, generatorFolder } from './generate.ts';
import { readInput, type JobContext, type JobInput, type StepOutput, type StepRunner } from './job.ts';

/** Probability with which the bound of epsilon may be wrong. */
const failure = 1e-6;

/**
 * The delta of the bound. A mechanism has an epsilon at every delta; with the accounts' own, which are about as large as
 * `failure`, no number of right guesses would show anything (theorem 5.2: at least 2 delta is added to their probability).
 */
const boundDelta = 1e-10;

/** Exact figures of private records are made under the waiver alone, whatever called this step. */
function checkWaiver({ node }: JobInput<'audit'>, { sensitivity }: PlanDataset): void {
  if (sensitivity !== 'private' || node.waivers.includes('measures')) return;
  throw new EpsilonflowError('MECHANISM_MISMATCH', `${node.id} has no waiver to audit against private records.`);
}

/** What the audited mechanism claims; null where it claims nothing. */
function claimOf({ privacy }: Pick<PlanNode, 'privacy'>): AuditFindings['claim'] {
  const event = privacy && mechanismEvent(privacy.mechanism);
  if (!event || privacy.epsilon === null) return null;
  const { epsilon, delta } = privacy;
  return { epsilon, delta, epsilonOfBound: composedEpsilon([event], boundDelta).epsilon };
}

/** @throws EpsilonflowError AUDIT_EXCEEDED when the canaries refute what is claimed */
function checkClaim(claim: AuditFindings['claim'], { epsilon, guesses, correct }: OneRunAudit): void {
  if (claim === null || epsilon <= claim.epsilonOfBound) return;
  throw new EpsilonflowError(
    'AUDIT_EXCEEDED',
    `Training costs epsilon ${epsilon.toFixed(3)} at least, and claims ${claim.epsilonOfBound.toFixed(3)}, both at delta ` +
      `${boundDelta}: ${correct} of ${guesses} guesses about its canaries were right.`,
  );
}

/** Nats of records by the base model and by generators on it. */
class Losses {
  readonly config: DecoderConfig;
  readonly #input: JobInput<'audit'>;
  readonly #context: JobContext;
  readonly #tokenizer: Tokenizer;
  readonly #weights: Weights;
  readonly #known = new Map<Generator | null, RecordLosses>();

  private constructor(
    input: JobInput<'audit'>,
    context: JobContext,
    tokenizer: Tokenizer,
    { config, weights }: Pick<Model, 'config' | 'weights'>,
  ) {
    this.config = config;
    this.#input = input;
    this.#context = context;
    this.#tokenizer = tokenizer;
    this.#weights = weights;
  }

  static async open(
    input: JobInput<'audit'>,
    context: JobContext,
    { base, tokenizer }: TrainedGenerator,
  ): Promise<Losses> {
    context.progress({ phase: 'load', done: 0, total: 1, unit: 'models' });
    return new Losses(input, context, tokenizer, await readModel(base.path));
  }

  /** @param generator null: the base model */
  async of(generator: Generator | null, records: readonly TextRecord[]): Promise<Float64Array> {
    const { training } = this.#input.node.params;
    const dataset = trainedDataset(this.#input);
    const encoded = await encodeAll(records, this.#tokenizer, training, dataset, this.#context);
    return this.#losses(generator, training.sequence).of(encoded, async (done) => {
      this.#context.progress({ phase: 'evaluate', done, total: records.length, unit: 'records' });
      await this.#context.breathe();
    });
  }

  /** Nats by which a generator finds records likelier than the base model does. */
  async gains(generator: Generator, records: readonly TextRecord[]): Promise<Float64Array> {
    const before = await this.of(null, records);
    const after = await this.of(generator, records);
    return before.map((nats, place) => nats - after[place]!);
  }

  dispose(): void {
    for (const losses of this.#known.values()) losses.dispose();
    disposeTree(this.#weights);
  }

  #losses(generator: Generator | null, sequence: number): RecordLosses {
    const model = { config: this.config, weights: this.#weights, trained: generator };
    let losses = this.#known.get(generator);
    if (!losses)
      this.#known.set(generator, (losses = new RecordLosses(model, { sequence, padId: this.#tokenizer.eosId })));
    return losses;
  }
}

/** Bits by which the generator has narrowed the search for each repeated canary, and which of them it says. */
async function repeatedCanaries(
  { repeated, candidates }: Canaries,
  losses: Losses,
  generator: Generator,
  said: readonly string[],
): Promise<AuditedRepetition[]> {
  const others = await losses.of(generator, candidates);
  const found: AuditedRepetition[] = [];
  for (const { repetitions, records } of repeated) {
    const nats = await losses.of(generator, records);
    const leaked = records.filter(({ text }) => said.some((each) => each.includes(text))).length;
    found.push({
      repetitions,
      exposures: Array.from(nats, (each) => exposure(each, others)),
      leaked: { value: leaked / records.length, ...clopperPearson(leaked, records.length) },
    });
  }
  return found;
}

async function samplesOf(
  { node }: JobInput<'audit'>,
  { generator, base }: TrainedGenerator,
  context: JobContext,
): Promise<string[]> {
  const params = { ...node.params.generation, count: node.params.samples };
  const { kept } = await drawTexts(base, () => generator, params, context);
  return kept.map(({ text }) => text);
}

async function auditRecords(
  input: JobInput<'audit'>,
  { members, others }: AuditedRecords,
  losses: Losses,
  context: JobContext,
): Promise<Pick<AuditFindings, 'rows' | 'membership' | 'longestRun'>> {
  const generator = await readGenerator(generatorFolder(input), losses.config);
  const synthetic = await readSynthetic(input.artifacts['synthetic']![0]!.directory);
  const model = modelMembership(await losses.gains(generator, [...members, ...others]));
  return {
    rows: members.length,
    membership: { model, synthetic: syntheticMembership(synthetic, { members, others }) },
    longestRun: await longestRuns(synthetic, { members, others }, context),
  };
}

/** For tables and curves. */
function metricsOf({ bound, claim, repeated, membership, longestRun, rows }: AuditFindings): Record<string, number> {
  const mean = (values: readonly number[]): number => values.reduce((sum, each) => sum + each, 0) / values.length;
  const metrics: Record<string, number> = {
    epsilonBound: bound.epsilon,
    ...(claim && { epsilonClaimed: claim.epsilonOfBound }),
    rows,
    longestRunTrain: longestRun.train,
    longestRunTest: longestRun.test,
  };
  for (const { repetitions, exposures, leaked } of repeated) {
    metrics[`exposure${repetitions}`] = mean(exposures);
    metrics[`leakRate${repetitions}`] = leaked.value;
  }
  for (const [name, { area, rates }] of Object.entries(membership)) {
    metrics[`${name}Area`] = area.value;
    for (const { falseAlarms, rate } of rates) metrics[`${name}RateAt${falseAlarms}`] = rate;
  }
  return metrics;
}

export const run: StepRunner<'audit'> = async (input, context): Promise<StepOutput> => {
  const { node } = input;
  const { training, candidates, rows, samples, seed } = node.params;
  const dataset = trainedDataset(input);
  checkWaiver(input, dataset);
  const canaries = drawCanaries(node.params, dataset.label?.values.length ?? 0);
  const trainingInput = { ...input, node: { ...node, params: training } } as unknown as JobInput<'finetune'>;
  const trained = await trainGenerator(trainingInput, context, plantedRecords(canaries));
  const { train = [], test = [] } = await readInput(input, dataset);

  const losses = await Losses.open(input, context, trained);
  const scores = await losses.gains(trained.generator, canaries.single);
  const audited = auditOneRun(scores, canaries.included, { delta: boundDelta, failure });
  const claim = claimOf(node);
  checkClaim(claim, audited);
  const records = await auditRecords(input, drawRecords({ train, test }, rows, seed), losses, context);
  const said = await samplesOf(input, trained, context);
  const repeated = await repeatedCanaries(canaries, losses, trained.generator, said);
  losses.dispose();

  const findings: AuditFindings = {
    claim,
    bound: { ...audited, delta: boundDelta, failure },
    ...{ repeated, mostExposure: Math.log2(candidates + 1), samples },
    ...records,
  };
  context.progress({ phase: 'write', done: 0, total: 1, unit: 'files' });
  await writeFile(join(input.outputDirectory, 'audit.json'), `${JSON.stringify(findings, null, 2)}\n`);
  const { proof, metrics } = trained;
  return { metrics: { ...metrics, ...metricsOf(findings) }, summary: { ...findings }, ...(proof && { proof }) };
};
