/** @file How far each running step is, as small files in the run's folder, for those who watch. Lossy on purpose. */

import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PlanNode } from '../schemas/plan.ts';
import type { Passed, Progress } from '../tracking/door.ts';
import type { JobProgress } from './job.ts';

export interface LiveProgress extends JobProgress {
  node: string;
  /** Milliseconds since 1970. */
  time: number;
}

const folder = (runDirectory: string): string => join(runDirectory, 'progress');

/** Never fails a step: who watches sees the last state that could be written. */
export function writeProgress(runDirectory: string, node: PlanNode, progress: Passed<Progress>): void {
  const path = join(folder(runDirectory), `${node.slug}.json`);
  try {
    mkdirSync(folder(runDirectory), { recursive: true });
    writeFileSync(
      `${path}.partial`,
      JSON.stringify({ ...progress, node: node.id, time: Date.now() } satisfies LiveProgress),
    );
    renameSync(`${path}.partial`, path);
  } catch {
    rmSync(`${path}.partial`, { force: true });
  }
}

export function clearProgress(runDirectory: string, slug: string): void {
  rmSync(join(folder(runDirectory), `${slug}.json`), { force: true });
}

export function readProgress(runDirectory: string): LiveProgress[] {
  let names: string[];
  try {
    names = readdirSync(folder(runDirectory)).filter((name) => name.endsWith('.json'));
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    try {
      return [JSON.parse(readFileSync(join(folder(runDirectory), name), 'utf8')) as LiveProgress];
    } catch {
      return [];
    }
  });
}
