/** @file What other hosts that share the store have said of runs, taken before a command shows them. */

import type { LiveProgress } from '../activities/live-progress.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { inParallel } from '../schemas/in-parallel.ts';
import type { Store } from '../store/index.ts';
import type { RunFolder } from '../tracking/runs.ts';
import { collectEvents } from '../tracking/shared-log.ts';
import { styled } from './output.ts';

/** Prints a line for people. */
type Say = (line: string) => void;

const toStderr: Say = (line) => void process.stderr.write(`${line}\n`);

/** Runs whose logs are asked for at a time. */
const askedTogether = 8;

/** Takes what they logged. Where the store gives no answer, what is here is shown, with a warning. */
export async function takeFromOthers(store: Store, runs: readonly RunFolder[], say = toStderr): Promise<void> {
  const { logs } = store;
  if (logs === null) return;
  await orWarn(undefined, say, async () => {
    await inParallel(askedTogether, runs, async ({ directory, record }) =>
      collectEvents(directory, record, await store.loadPlan(record.planDigest), logs),
    );
  });
}

/** How far steps are that run there. */
export async function progressElsewhere(
  { logs }: Store,
  { record }: RunFolder,
  say = toStderr,
): Promise<LiveProgress[]> {
  if (logs === null) return [];
  const told = await orWarn([], say, () => logs.progressElsewhere(record));
  return told.flatMap((text) => JSON.parse(text) as LiveProgress[]);
}

async function orWarn<T>(instead: T, say: Say, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (!(error instanceof EpsilonflowError) || !['SERVICE_UNREACHABLE', 'STORE_REFUSED'].includes(error.code))
      throw error;
    const warning = styled('yellow', 'warning', process.stderr);
    say(`${warning}: what other hosts say is not shown: ${error.message}`);
    return instead;
  }
}
