/** What must be on the machine before set-up: each missing thing is named together with its fix. */

import { spawnSync } from 'node:child_process';
import { accessSync, constants, statfsSync } from 'node:fs';
import { packageRoot, versions } from './folders.mjs';

const numbers = (version) => version.split('.').map(Number);

/** Whether dotted version `version` is at least `least`. */
export function atLeast(version, least) {
  const [a, b] = [numbers(version), numbers(least)];
  for (let i = 0; i < b.length; i++) {
    if ((a[i] ?? 0) !== b[i]) return (a[i] ?? 0) > b[i];
  }
  return true;
}

/** What the checks look at; tests give another machine. */
export function thisMachine() {
  const run = (command, parameters) => {
    const result = spawnSync(command, parameters, { encoding: 'utf8' });
    return result.status === 0 ? result.stdout.trim() : null;
  };
  return {
    platform: process.platform,
    arch: process.arch,
    glibc: process.report.getReport().header.glibcVersionRuntime ?? null,
    node: process.versions.node,
    run,
    freeBytes: () => {
      const { bavail, bsize } = statfsSync(packageRoot);
      return bavail * bsize;
    },
    writable: () => {
      try {
        accessSync(packageRoot, constants.W_OK);
        return true;
      } catch {
        return false;
      }
    },
  };
}

const pythonNames = () =>
  [process.env.EPSILONFLOW_PYTHON, 'python3', 'python3.13', 'python3.12', 'python3.11', 'python3.10'].filter(Boolean);

/** The first Python that is new enough: `{ command, version }`, or null. */
export function findPython(machine = thisMachine()) {
  for (const command of pythonNames()) {
    const version = machine.run(command, ['-c', 'import platform; print(platform.python_version())']);
    if (version !== null && atLeast(version, versions.python)) return { command, version };
  }
  return null;
}

/** The C++ compiler to use, or null. */
export function findCompiler(machine = thisMachine()) {
  const names = [process.env.CXX, 'g++', 'c++', 'clang++'].filter(Boolean);
  return names.find((name) => machine.run(name, ['--version']) !== null) ?? null;
}

/**
 * Faults of this machine as `{ problem, fix }`, all at once.
 *
 * @param {{ python: boolean, compiler: boolean, diskMegabytes: number }} needs what the missing parts need
 */
export function missingPrerequisites(needs, machine = thisMachine()) {
  const faults = [];
  const fault = (problem, fix) => faults.push({ problem, fix });
  if (machine.platform !== 'linux' || machine.arch !== 'x64') {
    fault(
      `This is ${machine.platform} on ${machine.arch}; the TensorFlow library and Temporal's server are for Linux on x64.`,
      'Use a Linux x64 machine, container or WSL 2.',
    );
  } else if (machine.glibc === null) {
    fault(
      "This Linux has no glibc (Alpine's musl, perhaps), which the TensorFlow library needs.",
      'Use a glibc distribution such as Debian, Ubuntu, Fedora; as a container image: node:22-bookworm.',
    );
  }
  if (!atLeast(machine.node, versions.node)) {
    fault(
      `Node ${machine.node} is too old: ${versions.node} or newer is needed.`,
      'Install Node 20, 22 or 24, for example from https://nodejs.org or with a version manager.',
    );
  }
  if (!machine.writable()) {
    fault(`The folder ${packageRoot} can't be written.`, 'Clone the project into a folder of yours.');
  }
  if (needs.python) pythonFaults(machine, fault);
  if (needs.compiler && findCompiler(machine) === null) {
    fault(
      'No C++ compiler was found (g++), which builds the binding between Node and TensorFlow.',
      'Install one. Debian, Ubuntu: apt-get install g++. Fedora: dnf install gcc-c++.',
    );
  }
  const free = Math.floor(machine.freeBytes() / 1e6);
  if (free < needs.diskMegabytes) {
    fault(
      `The disk has ${free} MB free; set-up needs ${needs.diskMegabytes} MB.`,
      `Free some space, or clone the project onto a larger disk.`,
    );
  }
  return faults;
}

function pythonFaults(machine, fault) {
  const python = findPython(machine);
  if (python === null) {
    fault(
      `No Python ${versions.python} or newer was found (python3), which carries the servers of Temporal and MLflow.`,
      'Install it. Debian, Ubuntu: apt-get install python3 python3-venv. Or name one in EPSILONFLOW_PYTHON.',
    );
  } else if (machine.run(python.command, ['-c', 'import venv, ensurepip']) === null) {
    const short = python.version.split('.').slice(0, 2).join('.');
    fault(
      `Python ${python.version} (${python.command}) lacks the modules venv and ensurepip.`,
      `Install them. Debian, Ubuntu: apt-get install python3-venv, or python${short}-venv for just this version.`,
    );
  }
}
