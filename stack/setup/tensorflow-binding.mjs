/**
 * Set-up part: the native binding of `@tensorflow/tfjs-node-gpu`, built against our TensorFlow library.
 *
 * The compiler is called directly: the package's own way (node-gyp) needs make, downloads Node's headers and breaks on
 * paths with spaces, and the binding is two source files on Node-API, whose headers come from `node-api-headers`.
 * Node-API is stable, so that one binding serves Node 20, 22 and 24. It is kept in `.epsilonflow/binding` and linked
 * into `node_modules`, where `npm ci` removes the link and the next start makes it again.
 */

import { createHash } from 'node:crypto';
import { existsSync, lstatSync, mkdirSync, readFileSync, readlinkSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { complaintOf, outputOf, runQuietly, withProgress } from './commands.mjs';
import { SetupFailure } from './failure.mjs';
import { folders, packageRoot, tensorflow } from './folders.mjs';
import { findCompiler } from './prerequisites.mjs';
import { tensorflowInclude, tensorflowLib } from './tensorflow-library.mjs';

const napi = 8;
const tfjs = join(folders.modules, '@tensorflow', 'tfjs-node-gpu');
const sources = ['tfjs_backend.cc', 'tfjs_binding.cc'].map((name) => join(tfjs, 'binding', name));
const loadScript = join(packageRoot, 'stack', 'setup', 'load-tensorflow.cjs');
const headers = join(folders.modules, 'node-api-headers', 'include');
const linked = join(tfjs, 'lib', `napi-v${napi}`, 'tfjs_binding.node');

const flags = ['-std=c++17', '-O2', '-fPIC', '-shared', `-DNAPI_VERSION=${napi}`];

/** Built binding; its folder is named for all that it is made of. */
function builtFile() {
  const digest = createHash('sha256').update(`${tensorflow.sha256} ${flags.join(' ')}`);
  for (const source of sources) digest.update(readFileSync(source));
  return join(folders.binding, `napi-${napi}-${digest.digest('hex').slice(0, 16)}`, 'tfjs_binding.node');
}

const isLinked = (target) =>
  existsSync(linked) &&
  lstatSync(linked).isSymbolicLink() &&
  readlinkSync(linked) === relative(dirname(linked), target);

/** Links the binding into node_modules; a process that loads it at this moment sees the old one or the new one. */
function link(target) {
  mkdirSync(dirname(linked), { recursive: true });
  const fresh = `${linked}.${process.pid}`;
  rmSync(fresh, { force: true });
  symlinkSync(relative(dirname(linked), target), fresh);
  renameSync(fresh, linked);
}

/** Version of the TensorFlow that loads and computes in a process of its own, or null. */
const loads = () => outputOf(process.execPath, [loadScript]);

async function build(target, lock) {
  const compiler = findCompiler();
  if (compiler === null) throw new SetupFailure('No C++ compiler was found', 'Install g++.');
  const staging = `${dirname(target)}.partial`;
  rmSync(staging, { recursive: true, force: true });
  mkdirSync(staging, { recursive: true });
  const library = `$ORIGIN/${relative(dirname(target), tensorflowLib)}`;
  const includes = [headers, tensorflowInclude].map((folder) => `-I${folder}`);
  const libraries = [`-L${tensorflowLib}`, '-ltensorflow', '-ltensorflow_framework', `-Wl,-rpath,${library}`];
  const output = join(staging, 'tfjs_binding.node');
  await withProgress('TensorFlow binding: build', () =>
    runQuietly(compiler, [...flags, ...includes, '-o', output, ...sources, ...libraries], {
      log: 'tensorflow-binding',
      lock,
      hint: 'A g++ of version 9 or newer is needed; name another compiler in CXX.',
    }),
  );
  rmSync(dirname(target), { recursive: true, force: true });
  renameSync(staging, dirname(target));
}

export const tensorflowBinding = {
  id: 'tensorflow-binding',
  title: 'TensorFlow binding',
  version: () => `@tensorflow/tfjs-node-gpu on Node-API ${napi}`,
  downloadMegabytes: 0,
  diskMegabytes: 1,
  needs: { compiler: true },

  async check() {
    if (!existsSync(sources[0])) return { ready: false, detail: 'needs the npm packages' };
    const target = builtFile();
    if (!existsSync(target)) return { ready: false, detail: 'not built' };
    if (!isLinked(target)) return { ready: false, detail: 'not linked into node_modules' };
    const version = loads();
    return version === null
      ? { ready: false, detail: 'does not load' }
      : { ready: true, detail: `loads TensorFlow ${version}` };
  },

  async install(lock) {
    const target = builtFile();
    if (existsSync(target)) {
      link(target);
      if (loads() !== null) return;
    }
    await build(target, lock);
    link(target);
    if (loads() === null) {
      const why = (complaintOf(process.execPath, [loadScript]).match(/^\w*Error: .*$/m) ?? ['it does not compute'])[0];
      throw new SetupFailure(
        `The TensorFlow binding was built but does not load: ${why}`,
        `Remove ${folders.tensorflow} and ${folders.binding}, then run the same command again.`,
      );
    }
  },
};
