/** Vitest reporter: lists what was not run and what it needs. With `CI` set that fails the run. */

import { existsSync, readFileSync, rmSync } from 'node:fs';
import type { Reporter } from 'vitest/node';
import { notRunFile } from './requires.ts';

interface NotRun {
  what: string;
  needs: string;
  remedy: string;
}

export default class NotRunReporter implements Reporter {
  onInit(): void {
    rmSync(notRunFile, { force: true });
  }

  onTestRunEnd(): void {
    if (!existsSync(notRunFile)) return;
    const lines = new Set(readFileSync(notRunFile, 'utf8').split('\n').filter(Boolean));
    console.log('\nNot run:');
    for (const line of lines) {
      const { what, needs, remedy } = JSON.parse(line) as NotRun;
      console.log(`  ${what}: needs ${needs}. ${remedy}`);
    }
    if (process.env['CI']) {
      console.log('CI is set: every part has to run.');
      process.exitCode = 1;
    }
  }
}
