import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { headOf, type KnownHead, type Ledger, type RememberedHead } from '../../privacy/ledger/index.ts';
import { statePaths } from '../../stack/paths.ts';
import {
  acknowledgeLedger,
  discontinuitiesOf,
  holdLedger,
  openUnchecked,
  requireContinuity,
  type HeldLedger,
} from '../../stack/project-ledger.ts';
import { entry, envelope } from '../privacy/ledger-fixture.ts';

let folder: string;
let held: HeldLedger;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'held ledger '));
  vi.stubEnv('EPSILONFLOW_HOME', join(folder, 'state'));
  vi.stubEnv('EPSILONFLOW_LEDGER_URL', `sqlite:${join(folder, 'ledger', 'ledger.db')}`);
  held = holdLedger();
});

afterEach(async () => {
  await held.close();
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

const spend = (ledger: Ledger, workflow: string): Promise<unknown> =>
  ledger.reserve(envelope(workflow, [entry(workflow)], null, { benchmark: true }));

/** While the ledger is held open. */
function exchange(to: string): void {
  rmSync(join(folder, 'ledger'), { recursive: true });
  if (to !== 'nothing') cpSync(join(folder, to), join(folder, 'ledger'), { recursive: true });
}

const forgetRunState = (): void => rmSync(statePaths.ledgerHeads());

const copyTo = (name: string): void => cpSync(join(folder, 'ledger'), join(folder, name), { recursive: true });

/** Puts a copy in the ledger's place that lacks its last rows. Returns the head that it had. */
async function putOlderCopy(): Promise<KnownHead> {
  const ledger = await held.use();
  await spend(ledger, 'first');
  copyTo('copy');
  await spend(ledger, 'second');
  const head = await headOf(ledger);
  exchange('copy');
  return head;
}

const refused = {
  code: 'LEDGER_ROLLED_BACK',
  message: expect.stringMatching(/lacks row \d+, which an earlier activity of this run names/) as string,
};

describe('a ledger that a worker holds', () => {
  it('is opened once', async () => {
    const ledger = await held.use();
    await spend(ledger, 'first');
    expect(await held.use(await headOf(ledger))).toBe(ledger);
  });

  it('is used in its new place when the same rows are put there', async () => {
    const before = await held.use();
    await spend(before, 'first');
    const head = await headOf(before);
    copyTo('copy');
    exchange('copy');
    const after = await held.use(head);
    expect(after).not.toBe(before);
    await spend(after, 'second');
    const other = await openUnchecked();
    expect(await headOf(other)).toEqual(await headOf(after));
    await other.close();
  });

  it('is refused when an older copy was put in its place, by what the run state or a history remembers', async () => {
    const head = await putOlderCopy();
    await expect(held.use()).rejects.toMatchObject({ code: 'LEDGER_ROLLED_BACK' });
    forgetRunState();
    await expect(held.use(head)).rejects.toMatchObject(refused);
    // Without anything that remembers, an older copy can't be told.
    await held.use();
    await expect(held.use(head)).rejects.toMatchObject(refused);
  });

  it('is refused for a history until the loss is acknowledged', async () => {
    const head = await putOlderCopy();
    await expect(held.use(head)).rejects.toMatchObject({ code: 'LEDGER_ROLLED_BACK' });
    const restored = await openUnchecked();
    expect(await acknowledgeLedger(restored, null, { author: 'board', reason: 'backup' })).toHaveLength(1);
    await restored.close();
    await held.use(head);
  });

  it('is held against what services recorded of it, not of others, and one row acknowledges all that is lost', async () => {
    const ledger = await held.use();
    await spend(ledger, 'first');
    copyTo('copy');
    const recorded: RememberedHead[] = [];
    for (const workflow of ['second', 'third']) {
      await spend(ledger, workflow);
      recorded.push({ ...(await headOf(ledger)), source: `the history of ${workflow}` });
    }
    expect(await discontinuitiesOf(ledger, null, recorded)).toEqual([]);
    exchange('copy');
    forgetRunState();
    const restored = await openUnchecked();
    const others = recorded.map((head) => ({ ...head, ledger: 'another', source: 'another project' }));
    expect(await discontinuitiesOf(restored, null, others)).toEqual([]);
    const all = [...others, ...recorded, ...recorded];
    await expect(requireContinuity(restored, null, all)).rejects.toMatchObject({
      code: 'LEDGER_ROLLED_BACK',
      message: expect.stringContaining('which the history of third names') as string,
    });
    const { sequence } = await restored.head();
    expect(await acknowledgeLedger(restored, null, { author: 'board', reason: 'backup' }, all)).toHaveLength(2);
    expect((await restored.head()).sequence).toBe(sequence + 1);
    for (const known of [recorded, recorded.slice(0, 1)]) {
      expect(await discontinuitiesOf(restored, null, known)).toEqual([]);
    }
    const later = { ...recorded[0]!, hash: 'e'.repeat(64) };
    expect(await discontinuitiesOf(restored, null, [...recorded, later])).toHaveLength(1);
    await restored.verify();
    await restored.close();
  });

  it.each([true, false])('is not made anew when it is gone, run state there: %s', async (isRemembered) => {
    const ledger = await held.use();
    await spend(ledger, 'first');
    const head = await headOf(ledger);
    exchange('nothing');
    if (!isRemembered) forgetRunState();
    await expect(held.use(head)).rejects.toMatchObject({ code: 'LEDGER_MISMATCH' });
    expect(existsSync(join(folder, 'ledger'))).toBe(false);
  });

  it('is refused when it is another one than a history names', async () => {
    const head = { ...(await headOf(await held.use())), ledger: 'another' };
    await expect(held.use(head)).rejects.toMatchObject({
      code: 'LEDGER_MISMATCH',
      message: expect.stringContaining('not the one that an earlier activity of this run names') as string,
    });
  });
});
