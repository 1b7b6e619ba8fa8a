/**
 * @file Processes for chaos trials. Each death costs a start, so the code is translated to JavaScript once, beside the
 * project's packages, and processes are started before they are needed and used again while they live.
 */

import { fork, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

import ts from 'typescript';

import { packageRoot, partsRoot } from '../../stack/paths.ts';
import type { Life, LifeEnd } from './life.ts';

/** Translates a program and all that it imports of the project; returns the folder. */
function translate(program: string): string {
  const parent = join(partsRoot, 'tmp');
  mkdirSync(parent, { recursive: true });
  const folder = mkdtempSync(join(parent, 'chaos-'));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  const seen = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    const text = readFileSync(file, 'utf8');
    const { outputText } = ts.transpileModule(text, {
      fileName: file,
      compilerOptions: {
        target: ts.ScriptTarget.ES2022,
        module: ts.ModuleKind.ESNext,
        verbatimModuleSyntax: true,
        rewriteRelativeImportExtensions: true,
      },
    });
    const target = join(folder, relative(packageRoot, file)).replace(/\.ts$/, '.js');
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, outputText);
    for (const { fileName } of ts.preProcessFile(outputText).importedFiles) {
      if (fileName.startsWith('.')) visit(join(dirname(file), fileName).replace(/\.js$/, '.ts'));
    }
  };
  visit(program);
  return folder;
}

export interface ProcessPool {
  /** Runs a part of a life; null when the process was killed. `started` is called with what kills it. */
  live(life: Life, started?: (kill: () => void) => void): Promise<LifeEnd | Sleeper | null>;
  close(): void;
}

/** A process that stands still. */
export interface Sleeper {
  wake(): Promise<LifeEnd | null>;
}

/** Milliseconds between two looks whether a process stands still. */
const lookEvery = 15;

function isAsleep({ pid }: ChildProcess): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).startsWith('T');
  } catch {
    return false;
  }
}

const asleep = (child: ChildProcess, over: Promise<unknown>): Promise<'asleep'> =>
  new Promise((resolve) => {
    const timer = setInterval(() => {
      if (!isAsleep(child)) return;
      clearInterval(timer);
      resolve('asleep');
    }, lookEvery);
    void over.finally(() => clearInterval(timer)).catch(() => undefined);
  });

interface Member {
  child: ChildProcess;
  ready: Promise<void>;
}

/** @param spare how many processes wait for work */
export function openPool(spare: number): ProcessPool {
  const folder = translate(join(packageRoot, 'test', 'chaos', 'experiment-process.ts'));
  const idle: Member[] = [];
  const all = new Set<ChildProcess>();
  const start = (): Member => {
    const child = fork(join(folder, 'test', 'chaos', 'experiment-process.js'), [], {
      cwd: packageRoot,
      execArgv: [],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    all.add(child);
    child.once('exit', () => all.delete(child));
    return { child, ready: new Promise((resolve) => child.once('message', () => resolve())) };
  };
  const refill = (): void => {
    while (idle.length < spare) idle.push(start());
  };
  refill();
  return {
    async live(life, started) {
      const member = idle.shift() ?? start();
      refill();
      const { child, ready } = member;
      await ready;
      const end = new Promise<LifeEnd | null>((resolve, reject) => {
        const heard = (message: LifeEnd): void => {
          child.off('exit', died);
          resolve(message);
        };
        const died = (code: number | null, signal: NodeJS.Signals | null): void => {
          child.off('message', heard);
          if (signal === 'SIGKILL') resolve(null);
          else reject(new Error(`A process of a trial ended with code ${code}, signal ${signal}.`));
        };
        child.once('message', heard);
        child.once('exit', died);
      });
      child.send(life);
      started?.(() => child.kill('SIGKILL'));
      if (life.dies?.freezes && (await Promise.race([end, asleep(child, end)])) === 'asleep') {
        return {
          wake: async () => {
            child.kill('SIGCONT');
            const ended = await end;
            child.kill('SIGKILL');
            return ended;
          },
        };
      }
      const ended = await end;
      // One that was to be killed from outside may be dying still.
      if (ended !== null && started === undefined) idle.push(member);
      else if (ended !== null) child.kill('SIGKILL');
      return ended;
    },
    close() {
      for (const child of all) child.kill('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
