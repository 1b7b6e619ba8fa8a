/** @file Brings every part to its state of readiness: quick when nothing is to do, safe to interrupt and to repeat. */

import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { endCommands } from './commands.mjs';
import { checkDevice } from './device.mjs';
import { SetupFailure } from './failure.mjs';
import { folders, partsRoot } from './folders.mjs';
import { acquireLock, isAlive } from './lock.mjs';
import { parts } from './parts.mjs';
import { missingPrerequisites } from './prerequisites.mjs';

const say = (text) => process.stderr.write(`${text}\n`);

async function notReady() {
  const missing = [];
  for (const part of parts) {
    const { ready, detail } = await part.check();
    if (!ready) missing.push({ part, detail });
  }
  return missing;
}

const sum = (missing, key) => missing.reduce((total, { part }) => total + part[key], 0);

function announce(missing) {
  if (sum(missing, 'downloadMegabytes') === 0) {
    say(`Setting up: ${missing.map(({ part, detail }) => `${part.title} (${detail})`).join(', ')}`);
    return;
  }
  say('Set-up of Epsilonflow, inside this folder only:');
  for (const { part, detail } of missing) say(`  ${part.title} (${part.version()}): ${detail}`);
  say(
    `It downloads about ${sum(missing, 'downloadMegabytes')} MB and takes about ${sum(missing, 'diskMegabytes')} MB of disk. ` +
      'Interrupt it whenever you like: the same command goes on from there.',
  );
}

function checkPrerequisites(missing) {
  const faults = missingPrerequisites({
    python: missing.some(({ part }) => part.needs.python),
    compiler: missing.some(({ part }) => part.needs.compiler),
    // Downloads lie beside what is unpacked from them for a while.
    diskMegabytes: sum(missing, 'diskMegabytes') + Math.min(sum(missing, 'downloadMegabytes'), 400),
  });
  if (faults.length === 0) return;
  const list = faults.map(({ problem, fix }) => `  - ${problem}\n    ${fix}`).join('\n');
  throw new SetupFailure(`Something is missing on this machine:\n${list}`, 'Then run the same command again.');
}

/** Ends what a killed set-up may have left running, so that it doesn't write into what we make. */
function endLeftovers(former) {
  const { command } = former;
  if (command?.pid === undefined || !isAlive(command)) return;
  try {
    process.kill(-command.pid, 'SIGKILL');
  } catch {
    // It ended in the meantime.
  }
}

/** Makes all parts ready. Throws SetupFailure. */
export async function setUp() {
  checkDevice();
  mkdirSync(partsRoot, { recursive: true });
  const lock = await acquireLock(join(partsRoot, 'setup.lock'), {
    purpose: 'set-up',
    onWait: (holder) => say(`Waiting for the set-up that process ${holder.pid} does in this folder ...`),
    onTakeover: (former) => {
      say(`The set-up of process ${former.pid} was cut off; going on from there.`);
      endLeftovers(former);
    },
  }).catch((error) => {
    throw new SetupFailure(
      `The folder ${partsRoot} can't be written: ${error.message}`,
      'Make it yours, or clone elsewhere.',
    );
  });
  const abort = (signal) => {
    endCommands();
    lock.release();
    process.exit(signal === 'SIGINT' ? 130 : 143);
  };
  process.once('SIGINT', abort);
  process.once('SIGTERM', abort);
  try {
    rmSync(folders.setupTmp, { recursive: true, force: true });
    const missing = await notReady();
    if (missing.length === 0) {
      // Even then the Node that runs us may be too old.
      checkPrerequisites([]);
      return;
    }
    announce(missing);
    checkPrerequisites(missing);
    removePartial(partsRoot);
    for (const part of parts) {
      if (!(await part.check()).ready) await part.install(lock);
    }
    for (const { part, detail } of await notReady()) {
      throw new SetupFailure(
        `${part.title}: ${detail}`,
        'Run "node stack/bootstrap.mjs setup" again; its logs are in .epsilonflow/logs.',
      );
    }
    rmSync(folders.setupTmp, { recursive: true, force: true });
    rmSync(join(folders.cache, 'npm'), { recursive: true, force: true });
  } finally {
    process.off('SIGINT', abort);
    process.off('SIGTERM', abort);
    lock.release();
  }
}

/** What interrupted work has left: every part builds under such a name and renames at its end. */
function removePartial(root) {
  for (const folder of [root, folders.binding, folders.data, join(root, 'tensorflow')]) {
    let names = [];
    try {
      names = readdirSync(folder);
    } catch {
      continue;
    }
    for (const name of names.filter((candidate) => /\.partial(-\d+)?$/.test(candidate))) {
      rmSync(join(folder, name), { recursive: true, force: true });
    }
  }
}
