/** @file `epsilonflow privacy`: what mechanisms cost, and which mechanism a budget buys. Needs no ledger. */

import { readFileSync } from 'node:fs';

import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';

import { EpsilonflowError } from '../schemas/errors.ts';
import type { MechanismEvent } from '../privacy/accounting/index.ts';
import { action, printJson, printLine } from './output.ts';

interface Output {
  json?: boolean;
}

interface Chosen {
  accountant?: 'pld' | 'rdp';
}

function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('It must be a number.');
  return value;
}

const options = {
  samplingProbability: () =>
    new Option('--sampling-probability <q>', 'probability of each record to be in a step').argParser(number),
  noiseMultiplier: () =>
    new Option('--noise-multiplier <sigma>', 'standard deviation of the noise over the clip norm').argParser(number),
  steps: () => new Option('--steps <n>', 'number of steps').argParser(number),
  delta: () => new Option('--delta <delta>', 'delta of the guarantee').argParser(number).makeOptionMandatory(),
  target: () =>
    new Option('--target-epsilon <epsilon>', 'epsilon to stay within').argParser(number).makeOptionMandatory(),
  accountant: () =>
    new Option('--accountant <name>', 'one accountant instead of the tighter of both').choices(['pld', 'rdp']),
  json: () => new Option('--json', 'print JSON'),
};

/** Reads `--events`: JSON itself, or a file that holds it. */
async function readEvents(source: string): Promise<MechanismEvent[]> {
  const { checkEvent } = await import('../privacy/accounting/index.ts');
  const invalid = (message: string, cause?: unknown): EpsilonflowError =>
    new EpsilonflowError('ARGUMENT_INVALID', message, {
      cause,
      hint: 'Give --events a file or text like [{"mechanism":"gaussian","noiseMultiplier":2,"count":1}].',
    });
  let text = source;
  if (!/^\s*[[{]/.test(source)) {
    try {
      text = readFileSync(source, 'utf8');
    } catch (error) {
      throw invalid(`The file of events ${source} can not be read.`, error);
    }
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw invalid('The events are no valid JSON.', error);
  }
  if (!Array.isArray(parsed)) throw invalid('The events must be an array.');
  return parsed.map(checkEvent);
}

function needed(value: number | undefined, flag: string): number {
  if (value === undefined) {
    throw new EpsilonflowError('ARGUMENT_INVALID', `Option ${flag} is missing.`, {
      hint: 'Or give mechanisms of any kind by --events.',
    });
  }
  return value;
}

interface EpsilonOptions extends Output, Chosen {
  samplingProbability?: number;
  noiseMultiplier?: number;
  steps?: number;
  delta: number;
  events?: string;
}

async function printEpsilon(given: EpsilonOptions): Promise<void> {
  const { composedEpsilon } = await import('../privacy/accounting/index.ts');
  const events: MechanismEvent[] =
    given.events !== undefined
      ? await readEvents(given.events)
      : [
          {
            mechanism: 'poisson-gaussian',
            samplingProbability: needed(given.samplingProbability, '--sampling-probability'),
            noiseMultiplier: needed(given.noiseMultiplier, '--noise-multiplier'),
            count: needed(given.steps, '--steps'),
          },
        ];
  const result = composedEpsilon(events, given.delta, given.accountant);
  if (given.json) printJson(result);
  else printLine(`epsilon ${result.epsilon} at delta ${given.delta} (${result.accountant})`);
}

interface SigmaOptions extends Output, Chosen {
  targetEpsilon: number;
  samplingProbability: number;
  steps: number;
  delta: number;
}

async function printSigma(given: SigmaOptions): Promise<void> {
  const { calibrateNoiseMultiplier } = await import('../privacy/calibration.ts');
  const result = calibrateNoiseMultiplier(given);
  if (given.json) printJson(result);
  else printLine(`noise multiplier ${result.noiseMultiplier}: epsilon ${result.epsilon} (${result.accountant})`);
}

interface StepsOptions extends Output, Chosen {
  targetEpsilon: number;
  samplingProbability: number;
  noiseMultiplier: number;
  delta: number;
}

async function printSteps(given: StepsOptions): Promise<void> {
  const { calibrateSteps } = await import('../privacy/calibration.ts');
  const result = calibrateSteps(given);
  if (given.json) printJson(result);
  else printLine(`${result.steps} steps: epsilon ${result.epsilon} (${result.accountant})`);
}

export function privacyCommand(program: Command): void {
  const privacy = program
    .command('privacy')
    .description('Compute epsilon, noise or steps of DP mechanisms.')
    .addHelpText(
      'after',
      '\nExample:\n  epsilonflow privacy epsilon --sampling-probability 0.01 --noise-multiplier 1 --steps 1000 --delta 1e-5',
    );
  privacy
    .command('epsilon')
    .description('Epsilon of steps of DP-SGD, or of any mechanisms, composed.')
    .addOption(options.samplingProbability())
    .addOption(options.noiseMultiplier())
    .addOption(options.steps())
    .addOption(options.delta())
    .option('--events <file|json>', 'mechanisms of sensitivity 1 as a JSON array, instead of the three options')
    .addOption(options.accountant())
    .addOption(options.json())
    .addHelpText(
      'after',
      '\nExample: epsilonflow privacy epsilon --sampling-probability 0.01 --noise-multiplier 1 --steps 1000 --delta 1e-5',
    )
    .action(action(printEpsilon));
  privacy
    .command('sigma')
    .description('Least noise multiplier that stays within an epsilon.')
    .addOption(options.target())
    .addOption(options.samplingProbability().makeOptionMandatory())
    .addOption(options.steps().makeOptionMandatory())
    .addOption(options.delta())
    .addOption(options.accountant())
    .addOption(options.json())
    .addHelpText(
      'after',
      '\nExample: epsilonflow privacy sigma --target-epsilon 8 --sampling-probability 0.02 --steps 500 --delta 1e-6',
    )
    .action(action(printSigma));
  privacy
    .command('steps')
    .description('Most steps that stay within an epsilon.')
    .addOption(options.target())
    .addOption(options.samplingProbability().makeOptionMandatory())
    .addOption(options.noiseMultiplier().makeOptionMandatory())
    .addOption(options.delta())
    .addOption(options.accountant())
    .addOption(options.json())
    .addHelpText(
      'after',
      '\nExample: epsilonflow privacy steps --target-epsilon 8 --sampling-probability 0.02 --noise-multiplier 1 --delta 1e-6',
    )
    .action(action(printSteps));
}
