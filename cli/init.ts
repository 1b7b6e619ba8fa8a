/** @file `epsilonflow init`: makes a folder with a spec that runs, on sample data or on the user's own files. */

import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, join, relative, resolve } from 'node:path';
import type { Command } from 'commander';

import { EpsilonflowError } from '../schemas/errors.ts';
import { initialSpec, type InitChoices } from './init-template.ts';
import { action, printJson, printLine, shortPath, styled } from './output.ts';

interface InitOptions {
  data?: string;
  test?: string;
  text: string;
  label: string;
  values?: string;
  model?: string;
  json?: boolean;
}

/** Records of the sample. */
const sampleSize = { train: 4000, test: 1000 } as const;

export function initCommand(program: Command): void {
  program
    .command('init')
    .description(
      'Make a folder with a spec that runs: on sample text, or on files of your own, which stay where they are.',
    )
    .argument('<folder>', 'folder to make; its name becomes that of the experiment')
    .option('--data <file>', 'your training data: csv, tsv, jsonl or parquet, also .gz')
    .option('--test <file>', 'your test data, in the same format')
    .option('--text <column>', 'column of the text', 'text')
    .option('--label <column>', 'column of the label', 'label')
    .option('--values <list>', 'the labels there are, with commas between: they are not read from private data')
    .option('--model <model>', 'public base model: a folder, a GGUF file or "hub: org/name@revision"')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      '\nExample:\n  epsilonflow init reviews --data reviews.csv --test reviews-test.csv --label stars --values 1,2,3,4,5',
    )
    .action(action(init));
}

async function init(folder: string, options: InitOptions): Promise<void> {
  const directory = resolve(folder);
  const name = basename(directory);
  if (!/^[a-z][a-z0-9-]{0,63}$/.test(name)) {
    throw new EpsilonflowError('ARGUMENT_INVALID', `"${name}" can't name an experiment.`, {
      hint: 'Take small letters, digits and hyphens, a letter first: my-reviews.',
    });
  }
  if (existsSync(directory) && (!statSync(directory).isDirectory() || readdirSync(directory).length > 0)) {
    throw new EpsilonflowError('ARGUMENT_INVALID', `${shortPath(directory)} is there already and not empty.`, {
      hint: 'Name a folder that is not there yet: nothing is overwritten.',
    });
  }
  const { packageRoot, partsRoot } = await import('../stack/paths.ts');
  const own = ownData(options);
  const fromSpec = (path: string): string => pathFrom(directory, path);
  const sample = own === null ? readSample(join(partsRoot, 'data', 'speeches')) : null;
  mkdirSync(join(directory, ...(sample ? ['data'] : [])), { recursive: true });
  for (const [split, text] of Object.entries(sample ?? {})) {
    writeFileSync(join(directory, 'data', `${split}.jsonl`), text, { flag: 'wx' });
  }
  const choices: InitChoices = {
    name,
    schema: fromSpec(join(packageRoot, 'schemas', 'experiment.schema.json')),
    model: modelFrom(options.model ?? join(packageRoot, 'models', 'base'), fromSpec),
    ...(own === null
      ? {
          ...{ train: 'data/train.jsonl', test: 'data/test.jsonl', text: 'text', label: 'label' },
          ...{ values: ['before-1910', 'after-1910'], sensitivity: 'benchmark' as const },
        }
      : { ...own, train: fromSpec(own.train), test: fromSpec(own.test), sensitivity: 'private' as const }),
  };
  const spec = join(directory, `${name}.yaml`);
  writeFileSync(spec, initialSpec(choices), { flag: 'wx' });
  if (options.json) return printJson({ directory, spec, sensitivity: choices.sensitivity });
  printLine(`${styled('bold', shortPath(spec))} uses ${own === null ? 'sample text' : 'your files'}. Go on with`);
  for (const command of ['validate', 'plan', 'run']) printLine(`  epsilonflow ${command} ${shortPath(spec)}`);
  printLine('`run --profile small` shows in a minute or two that everything works.');
}

/** The files and columns of the command line; null where none are given. @throws EpsilonflowError ARGUMENT_INVALID */
function ownData({
  data,
  test,
  text,
  label,
  values,
}: InitOptions): Pick<InitChoices, 'train' | 'test' | 'text' | 'label' | 'values'> | null {
  if (data === undefined && test === undefined && values === undefined) return null;
  const missing = Object.entries({ '--data': data, '--test': test, '--values': values })
    .filter(([, value]) => value === undefined)
    .map(([option]) => option);
  if (data === undefined || test === undefined || values === undefined) {
    throw new EpsilonflowError('ARGUMENT_INVALID', `Your own data need ${missing.join(' and ')} too.`, {
      hint: 'See "epsilonflow init --help"; without any of them sample text is used.',
    });
  }
  for (const file of [data, test]) {
    if (existsSync(file)) continue;
    throw new EpsilonflowError('DATA_FILE_MISSING', `${file} does not exist.`, { hint: 'Check the path.' });
  }
  const labels = values.split(',').map((value) => value.trim());
  if (labels.length < 2 || labels.includes('') || new Set(labels).size < labels.length) {
    throw new EpsilonflowError('ARGUMENT_INVALID', `--values names at least two different labels, not "${values}".`, {
      hint: 'Put commas between them: --values negative,positive.',
    });
  }
  return { train: data, test, text, label, values: labels };
}

const modelFrom = (model: string, fromSpec: (path: string) => string): string =>
  model.startsWith('hub:') ? model : fromSpec(model);

function pathFrom(directory: string, path: string): string {
  const short = relative(directory, resolve(path));
  return short.startsWith('.') ? short : `./${short}`;
}

/** The first records of the demo data. @throws EpsilonflowError SETUP_INCOMPLETE */
function readSample(folder: string): Record<keyof typeof sampleSize, string> {
  const read = (split: keyof typeof sampleSize): string => {
    const file = join(folder, `${split}.jsonl`);
    if (!existsSync(file)) {
      throw new EpsilonflowError('SETUP_INCOMPLETE', 'The demo data are not there.', {
        hint: 'Run `node stack/bootstrap.mjs setup`, or give files of your own with --data.',
      });
    }
    return readFileSync(file, 'utf8').split('\n').slice(0, sampleSize[split]).join('\n') + '\n';
  };
  return { train: read('train'), test: read('test') };
}
