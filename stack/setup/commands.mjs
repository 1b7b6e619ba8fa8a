/** Running commands in set-up: quiet, with a log file, elapsed time on screen, and nothing left behind. */

import { spawn, spawnSync } from 'node:child_process';
import { createWriteStream, mkdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { SetupFailure } from './failure.mjs';
import { childEnvironment, folders, packageRoot } from './folders.mjs';
import { processStart } from './lock.mjs';

const running = new Set();

/** Ends what set-up has started; each command has a process group of its own. */
export function endCommands(signal = 'SIGTERM') {
  for (const child of running) {
    try {
      process.kill(-child.pid, signal);
    } catch {
      // It ended by itself.
    }
  }
}

/**
 * Runs a command to its end with its output in `.epsilonflow/logs/<log>.log`.
 *
 * @param {string} command
 * @param {string[]} parameters
 * @param {{ log: string, hint: string, cwd?: string, lock?: { note: (extra: object) => void } }} options
 */
export async function runQuietly(command, parameters, { log, hint, cwd = packageRoot, lock }) {
  mkdirSync(folders.logs, { recursive: true });
  const file = join(folders.logs, `${log}.log`);
  const output = createWriteStream(file);
  output.write(`$ ${command} ${parameters.join(' ')}\n`);
  const child = spawn(command, parameters, {
    cwd,
    env: childEnvironment(folders.setupTmp),
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  child.stdout.pipe(output, { end: false });
  child.stderr.pipe(output, { end: false });
  running.add(child);
  // Whoever takes over the lock of a killed set-up ends this command first.
  if (child.pid !== undefined) lock?.note({ command: { pid: child.pid, start: processStart(child.pid) } });
  const problem = await new Promise((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', (code, signal) => resolve(code === 0 ? null : (signal ?? `exit code ${code}`)));
  });
  running.delete(child);
  lock?.note({ command: undefined });
  await new Promise((resolve) => output.end(resolve));
  if (problem === null) return;
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n').slice(-12);
  throw new SetupFailure(`${command} failed (${problem}). The end of ${file}:\n    ${lines.join('\n    ')}`, hint);
}

/** Output of a short command, or null when it fails. */
export function outputOf(command, parameters) {
  const result = spawnSync(command, parameters, { encoding: 'utf8', env: childEnvironment(), cwd: packageRoot });
  return result.status === 0 ? result.stdout.trim() : null;
}

/** What a short command prints on stderr. */
export const complaintOf = (command, parameters) =>
  spawnSync(command, parameters, { encoding: 'utf8', env: childEnvironment(), cwd: packageRoot }).stderr;

/** Runs a command in the foreground; resolves with its exit code. Ctrl-C reaches it through the terminal. */
export async function runForeground(command, parameters, environment = {}) {
  const child = spawn(command, parameters, {
    cwd: packageRoot,
    env: { ...childEnvironment(), ...environment },
    stdio: 'inherit',
  });
  const forward = (signal) => child.kill(signal);
  const ignore = () => undefined;
  process.on('SIGTERM', forward);
  process.on('SIGINT', ignore);
  try {
    return await new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code, signal) => resolve(code ?? 128 + (constants.signals[signal] ?? 1)));
    });
  } finally {
    process.off('SIGTERM', forward);
    process.off('SIGINT', ignore);
  }
}

/** Tells every few seconds how long something takes, on one line of a terminal or as lines of a log. */
export async function withProgress(title, work, amount = () => '') {
  const started = Date.now();
  const terminal = process.stderr.isTTY === true;
  const seconds = () => `${Math.round((Date.now() - started) / 1000)} s`;
  const line = () => [title, seconds(), amount()].filter(Boolean).join(' · ');
  if (!terminal) process.stderr.write(`${title} ...\n`);
  const timer = setInterval(
    () => process.stderr.write(terminal ? `\r\u001b[K${line()}` : `${line()}\n`),
    terminal ? 500 : 15_000,
  );
  try {
    const result = await work();
    process.stderr.write(`${terminal ? '\r\u001b[K' : ''}${title} · done in ${seconds()}\n`);
    return result;
  } catch (error) {
    if (terminal) process.stderr.write('\n');
    throw error;
  } finally {
    clearInterval(timer);
  }
}
