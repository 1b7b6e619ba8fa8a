/** @file A Python environment of its own for the peers of one benchmark, made on first use. */

import { createHash } from 'node:crypto';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { partsRoot } from '../stack/paths.ts';
import { findPython } from '../stack/setup/prerequisites.mjs';

async function run(command: string, args: readonly string[]): Promise<void> {
  const child = spawn(command, args, { stdio: ['ignore', process.stderr, process.stderr] });
  await new Promise<void>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => (code === 0 ? resolve() : reject(new Error(`${command} ${args.join(' ')} failed`))));
  });
}

/** Path of a Python that has exactly the `pins` ("package==version") installed, in `.epsilonflow/bench`. */
export async function peerPython(name: string, pins: readonly string[], say: (text: string) => void): Promise<string> {
  const digest = createHash('sha256').update(pins.join('\n')).digest('hex').slice(0, 12);
  const folder = join(partsRoot, 'bench', `${name}-${digest}`);
  const python = join(folder, 'bin', 'python');
  const complete = join(folder, 'complete');
  if (existsSync(complete)) return python;
  const base = findPython();
  if (base === null) throw new Error('No Python was found. Install python3 and python3-venv.');
  say(`Installing ${pins.join(', ')} ...`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(partsRoot, 'bench'), { recursive: true });
  await run(base.command, ['-m', 'venv', folder]);
  await run(python, ['-m', 'pip', 'install', '--quiet', '--no-input', '--prefer-binary', ...pins]);
  writeFileSync(complete, '');
  return python;
}
