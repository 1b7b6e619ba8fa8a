/**
 * Set-up part: the TensorFlow library and its C headers, out of the Python wheel; no TensorFlow for Python. For NVIDIA
 * cards it is another wheel, and NVIDIA's own with the CUDA libraries are laid where the library looks for them.
 */

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { runQuietly, withProgress } from './commands.mjs';
import { device } from './device.mjs';
import { folders, packageRoot, tensorflow } from './folders.mjs';
import { pythonCommand } from './python-environment.mjs';

export const tensorflowLib = join(folders.tensorflow, 'lib');
export const tensorflowInclude = join(folders.tensorflow, 'include');
const libraries = ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'];
const cudaRequirements = join(packageRoot, 'stack', 'setup', 'cuda-requirements.txt');

/** Bytes below the folders, for showing how far a download is. */
function bytesBelow(...paths) {
  let bytes = 0;
  for (const path of paths) {
    try {
      for (const entry of readdirSync(path, { recursive: true })) bytes += statSync(join(path, entry)).size;
    } catch {
      // A file may vanish between listing and measuring.
    }
  }
  return bytes;
}

export const tensorflowLibrary = {
  id: 'tensorflow-library',
  title: 'TensorFlow library',
  version: () => `${tensorflow.package} ${tensorflow.version}${device === 'gpu' ? ' with CUDA libraries' : ''}`,
  downloadMegabytes: tensorflow.downloadMegabytes,
  diskMegabytes: tensorflow.diskMegabytes,
  needs: { python: true },

  async check() {
    const missing = libraries.filter((name) => !existsSync(join(tensorflowLib, name)));
    return missing.length === 0 && existsSync(join(tensorflowInclude, 'tensorflow', 'c', 'c_api.h'))
      ? { ready: true, detail: 'unpacked' }
      : { ready: false, detail: 'not installed' };
  },

  async install(lock) {
    const staging = `${folders.tensorflow}.partial`;
    const wheels = join(staging, 'wheel');
    rmSync(staging, { recursive: true, force: true });
    mkdirSync(wheels, { recursive: true });
    const requirement = join(staging, 'requirement.txt');
    const cuda = device === 'gpu' ? readFileSync(cudaRequirements, 'utf8') : '';
    const library = `${tensorflow.package}==${tensorflow.version} --hash=sha256:${tensorflow.sha256}\n`;
    writeFileSync(requirement, library + cuda);
    const platforms = tensorflow.platforms.flatMap((platform) => ['--platform', platform]);
    const tag = tensorflow.python.replace('.', '');
    await withProgress(
      `TensorFlow ${tensorflow.version}: download`,
      () =>
        runQuietly(
          pythonCommand,
          // The wheel's tag is fixed: its library is the same for every Python.
          ['-m', 'pip', 'download', '--no-input', '--no-deps', '--only-binary=:all:', '--require-hashes']
            .concat([...platforms, '--python-version', tensorflow.python])
            .concat(['--implementation', 'cp', '--abi', `cp${tag}`, '-d', wheels, '-r', requirement]),
          {
            log: 'tensorflow-download',
            lock,
            hint: 'Check that pip reaches its index, then run the same command again.',
          },
        ),
      () => `${Math.round(bytesBelow(folders.setupTmp, wheels) / 1e6)} of ${this.downloadMegabytes} MB`,
    );
    await withProgress(`TensorFlow ${tensorflow.version}: unpack`, () =>
      runQuietly(pythonCommand, [join(packageRoot, 'stack', 'setup', 'unpack-tensorflow.py'), wheels, staging], {
        log: 'tensorflow-unpack',
        lock,
        hint: 'Check that the disk has space, then run the same command again.',
      }),
    );
    // Names under which the linker looks for the libraries.
    symlinkSync(libraries[0], join(staging, 'lib', 'libtensorflow.so'));
    symlinkSync(libraries[1], join(staging, 'lib', 'libtensorflow_framework.so'));
    rmSync(wheels, { recursive: true });
    rmSync(requirement);
    rmSync(folders.tensorflow, { recursive: true, force: true });
    mkdirSync(dirname(folders.tensorflow), { recursive: true });
    renameSync(staging, folders.tensorflow);
  },
};
