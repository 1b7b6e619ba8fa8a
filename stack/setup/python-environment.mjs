/** Set-up part: a private Python environment with Temporal's server and MLflow. */

import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { outputOf, runQuietly, withProgress } from './commands.mjs';
import { SetupFailure } from './failure.mjs';
import { folders, packageRoot, versions } from './folders.mjs';
import { findPython } from './prerequisites.mjs';

const constraints = join(packageRoot, 'stack', 'setup', 'constraints.txt');
const stamp = join(folders.python, 'epsilonflow.json');
export const pythonCommand = join(folders.python, 'bin', 'python');
const temporalCommand = join(folders.python, 'bin', 'temporal');

const pins = () => [versions.temporal, versions.mlflow].map((pin) => `${pin.package}==${pin.version}`);
const pinsDigest = () =>
  createHash('sha256')
    .update(`${pins().join(' ')}\n${readFileSync(constraints, 'utf8')}`)
    .digest('hex');

const installedScript = `
import importlib.metadata as m
print(*[n + "==" + m.version(n) for n in ("${versions.temporal.package}", "${versions.mlflow.package}")])`;

export const pythonEnvironment = {
  id: 'python-environment',
  title: `Python environment with Temporal's server and MLflow`,
  version: () => pins().join(', '),
  downloadMegabytes: 330,
  diskMegabytes: 1050,
  needs: { python: true },

  async check() {
    if (!existsSync(stamp)) return { ready: false, detail: 'not installed' };
    if (JSON.parse(readFileSync(stamp, 'utf8')).pins !== pinsDigest())
      return { ready: false, detail: 'other versions' };
    const installed = outputOf(pythonCommand, ['-c', installedScript]);
    if (installed !== pins().join(' ')) return { ready: false, detail: 'its Python no longer runs' };
    const temporal = outputOf(temporalCommand, ['--version']);
    return { ready: temporal !== null, detail: temporal ?? `${temporalCommand} does not run` };
  },

  async install(lock) {
    const python = findPython();
    if (python === null) throw new SetupFailure('Python is missing', 'Install python3 and python3-venv.');
    rmSync(folders.python, { recursive: true, force: true });
    const hint = 'Check that pip reaches its index, then run the same command again.';
    await withProgress(
      `Python environment (Temporal ${versions.temporal.version}, MLflow ${versions.mlflow.version})`,
      async () => {
        await runQuietly(python.command, ['-m', 'venv', folders.python], {
          log: 'python-venv',
          lock,
          hint: 'Install the modules venv and ensurepip: on Debian and Ubuntu, apt-get install python3-venv.',
        });
        await runQuietly(
          pythonCommand,
          ['-m', 'pip', 'install', '--no-input', '--no-compile', '--prefer-binary', '-c', constraints, ...pins()],
          { log: 'python-pip', lock, hint },
        );
      },
    );
    writeFileSync(`${stamp}.new`, `${JSON.stringify({ pins: pinsDigest(), python: python.version })}\n`);
    renameSync(`${stamp}.new`, stamp);
  },
};
