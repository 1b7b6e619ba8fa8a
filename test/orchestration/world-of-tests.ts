/** @file What tests that run whole experiments through the command line share: one small world a file. */

import { afterAll, beforeAll } from 'vitest';
import { openLedger } from '../../privacy/ledger/index.ts';
import type { AccountSummary } from '../../privacy/ledger/ledger.ts';
import { ledgerUrl } from '../../stack/paths.ts';
import { stopServices } from '../../stack/services.ts';
import { stopWorker } from '../../stack/worker-process.ts';
import { openTinyWorld, type TinyWorld } from './tiny-experiment.ts';

/** Opens a world with 300 texts and a model before the tests of a file; it ends with its worker and servers after them. */
export function worldOfTests(): () => TinyWorld {
  let world: TinyWorld;
  beforeAll(async () => {
    world = await openTinyWorld({ train: 300, withModel: true });
  });
  afterAll(async () => {
    await stopWorker();
    await stopServices();
    world.remove();
  });
  return () => world;
}

/** What the ledger has charged experiments for the texts of the world. */
export async function experimentsCharged(): Promise<AccountSummary['experiments']> {
  const ledger = await openLedger(ledgerUrl());
  try {
    return (await ledger.accountSummary('weather'))!.experiments;
  } finally {
    await ledger.close();
  }
}
