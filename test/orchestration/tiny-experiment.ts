/**
 * @file A whole experiment on real parts, small enough for tests: a folder with made-up texts, a random base model and
 * its tokenizer, and a state folder and ledger of its own.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { initialWeights } from '../../learning/decoder/weights.ts';
import { writeModelFolder } from '../../learning/formats/model-folder.ts';
import { readTokenizer } from '../../learning/formats/model.ts';
import { trainBytePairs, writeTokenizer } from '../../learning/tokenizer/byte-pair-training.ts';
import { seededStream } from '../../privacy/noise.ts';
import { packageRoot } from '../../stack/paths.ts';

export interface TinyWorld {
  folder: string;
  /** What processes of this world see; also set in this process. */
  environment: NodeJS.ProcessEnv;
  write(name: string, content: string): string;
  remove(): void;
}

const words = {
  cold: ['ice', 'snow', 'frost', 'winter', 'north', 'glove'],
  warm: ['sun', 'sand', 'heat', 'summer', 'south', 'beach'],
};

/** Sentences whose words tell the label, most of the time. */
function rows(count: number, seed: number): string {
  const stream = seededStream(seed, 'texts of a test');
  const pick = <T>(from: readonly T[]): T => from[Math.floor(stream.uniform() * from.length)]!;
  return Array.from({ length: count }, (_, row) => {
    const label = row % 2 === 0 ? 'cold' : 'warm';
    const text = Array.from({ length: 6 }, () =>
      pick(stream.uniform() < 0.85 ? words[label] : Object.values(words).flat()),
    );
    return JSON.stringify({ text: text.join(' '), label });
  }).join('\n');
}

/** The beginning of a spec on the data and the model of the folder. */
export const specHead = (name: string, { size = 300, epsilon = 20, sensitivity = 'benchmark' } = {}): string => `
version: 1
name: ${name}
datasets:
  weather:
    files: { train: train.jsonl, test: test.jsonl }
    text: text
    label: { column: label, values: [cold, warm] }
    sensitivity: ${sensitivity}
    privacy: { unit: record, size: ${size}, budget: { epsilon: ${epsilon} } }
models:
  base: { path: base }`;

/** A `generator` step on them; `changes` replaces its numbers, also by expressions. */
export function generatorStep(changes: Record<string, string | number> = {}): string {
  const numbers = { epsilon: 2, steps: 6, batch: 60, sequence: 32, seed: 1, ...changes };
  return `  generator:
    uses: finetune
    with:
      model: base
      data: weather
      method: { kind: lora, rank: 2, alpha: 4, lr: 1e-2 }
      conditioning: class-bias
      clip: 0.5
${Object.entries(numbers)
  .map(([key, value]) => `      ${key}: ${value}`)
  .join('\n')}`;
}

/** A `synthetic` step after it, of a few short texts. @param extra lines of the step */
export const syntheticStep = (extra = ''): string => `
  synthetic:
    uses: generate${extra && `\n    ${extra}`}
    with: { generator: "\${{ steps.generator }}", count: 20, maxTokens: 8, temperature: 1, seed: 1 }
`;

/** Makes the folder and its data; `withModel` adds `base/`, a decoder with random weights. */
export async function openTinyWorld(options: { train: number; withModel: boolean }): Promise<TinyWorld> {
  const folder = mkdtempSync(join(tmpdir(), 'tiny world '));
  const write = (name: string, content: string): string => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  mkdirSync(join(folder, 'home'));
  // A git work tree of its own: a ledger's marker made here is not one of the clone around it.
  mkdirSync(join(folder, '.git'));
  write('train.jsonl', rows(options.train, 1));
  write('test.jsonl', rows(60, 2));
  if (options.withModel) await writeBase(join(folder, 'base'));
  const own = {
    EPSILONFLOW_HOME: join(folder, 'home'),
    EPSILONFLOW_LEDGER_URL: `sqlite:${join(folder, 'ledger.db')}`,
    MLFLOW_TRACKING_URI: 'none',
  };
  Object.assign(process.env, own);
  delete process.env['TEMPORAL_ADDRESS'];
  return {
    folder,
    environment: { ...process.env, ...own },
    write,
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

async function writeBase(directory: string): Promise<void> {
  await writeTokenizer(directory, trainBytePairs([Object.values(words).flat().join(' ').repeat(3)], 290));
  const tokenizer = await readTokenizer(directory);
  const config = {
    family: 'llama' as const,
    dim: 32,
    layers: 2,
    heads: 2,
    kvHeads: 1,
    hidden: 48,
    vocab: tokenizer.vocabularySize,
    context: 64,
    ropeTheta: 10_000,
    rmsEps: 1e-5,
    tied: true,
  };
  const stream = seededStream(3, 'base model of a test');
  const weights = initialWeights(config, (out, deviation) => stream.fillGaussian(out, deviation));
  await writeModelFolder(directory, config, weights, { bosTokenId: tokenizer.bosId, eosTokenId: tokenizer.eosId });
}

export interface CommandResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the command line as a user would. */
export function epsilonflow(world: TinyWorld, ...args: string[]): Promise<CommandResult> & { child: ChildProcess } {
  const child = spawn(process.execPath, [join(packageRoot, 'cli', 'epsilonflow.mjs'), ...args], {
    cwd: world.folder,
    env: world.environment,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const result = new Promise<CommandResult>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
  return Object.assign(result, { child });
}

/** The same with `--json`, and what it printed. */
export async function epsilonflowJson<T>(
  world: TinyWorld,
  ...args: string[]
): Promise<T & Pick<CommandResult, 'code' | 'stderr'>> {
  const { code, stdout, stderr } = await epsilonflow(world, ...args, '--json');
  if (!stdout.startsWith('{')) throw new Error(`${args.join(' ')} printed no JSON: ${stdout}${stderr}`);
  return { ...(JSON.parse(stdout) as T), code, stderr };
}

/** Ids of living processes of steps that belong to a world. */
export function jobProcesses(world: TinyWorld): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return (
          readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('activities/job-main.ts') &&
          readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`EPSILONFLOW_HOME=${world.folder}`)
        );
      } catch {
        return false;
      }
    });
}

/** What a world's steps use of the processor from the beginning of some work to its end, in seconds of all its cores. */
export async function processorTimeDuring(world: TinyWorld, work: () => Promise<void>): Promise<number> {
  const first = new Map<number, number>();
  const last = new Map<number, number>();
  const look = (): void => {
    for (const pid of jobProcesses(world)) {
      const used = processorTime(pid);
      if (used === null) continue;
      if (!first.has(pid)) first.set(pid, used);
      last.set(pid, used);
    }
  };
  look();
  const timer = setInterval(look, 200);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  const used = [...last].reduce((sum, [pid, now]) => sum + now - first.get(pid)!, 0);
  return used / availableParallelism();
}

/** Of a process, in seconds; null when it is gone. */
function processorTime(pid: number): number | null {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ');
    // Linux counts in hundredths.
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return null;
  }
}
