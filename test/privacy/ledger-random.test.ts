import { createHash } from 'node:crypto';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { composedEpsilon } from '../../privacy/accounting/index.ts';
import { filterEpsilon, spendingOf, type Charge } from '../../privacy/ledger/admission.ts';
import { openLedger, type FencingToken, type Ledger, type Receipt } from '../../privacy/ledger/index.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import type { PoissonGaussianMechanism } from '../../schemas/plan.ts';
import { ledgerDatabases } from './ledger-databases.ts';
import { delta, entry, envelope, mechanism, proof, registration } from './ledger-fixture.ts';

/** Numbers from 0 to `below`, the same for the same seed. */
function chooser(seed: number): (below: number) => number {
  let drawn = 0;
  return (below) =>
    createHash('sha256')
      .update(`${seed}/${(drawn += 1)}`)
      .digest()
      .readUInt32LE() % below;
}

const steps = 3;
const mechanisms: Record<string, PoissonGaussianMechanism> = {
  a: { ...mechanism, samplingProbability: 0.2, steps },
  b: { ...mechanism, samplingProbability: 0.3, noiseMultiplier: 1.5, steps },
  c: { ...mechanism, samplingProbability: 0.1, noiseMultiplier: 0.8, steps },
};
const names = Object.keys(mechanisms);
const refusals = ['BUDGET_REFUSED', 'FENCED', 'RECEIPT_INVALID'];

/** What a trainer would have seen: which noise it was allowed to use. */
interface Open {
  workflow: string;
  mechanism: PoissonGaussianMechanism;
  receipt: Receipt;
  token: FencingToken | null;
  used: Set<string>;
}

async function lives(ledger: Ledger, budget: number, seed: number): Promise<Open[]> {
  const choose = chooser(seed);
  const open = new Map<string, Open>();
  const act = async (): Promise<void> => {
    const workflow = ['u', 'v', 'w'][choose(3)]!;
    const action = choose(12);
    if (action < 2) {
      const wanted = names.slice(0, 1 + choose(names.length));
      const planned = wanted.map((name) => entry(name, { mechanism: mechanisms[name]! }));
      const receipts = await ledger.reserve(envelope(workflow, planned, budget));
      receipts.forEach((receipt, index) => {
        const key = `${workflow}/${wanted[index]!}`;
        const used = open.get(key)?.used ?? new Set();
        const token = open.get(key)?.token ?? null;
        open.set(key, { workflow, mechanism: mechanisms[wanted[index]!]!, receipt, token, used });
      });
    } else if (action === 2) {
      await ledger.release(workflow);
    } else {
      const chosen = [...open.values()][choose(Math.max(1, open.size))];
      if (chosen === undefined) return;
      const { receipt } = chosen;
      if (action < 5 || chosen.token === null) chosen.token = await ledger.begin(receipt, 1, null);
      else if (action === 5 && chosen.used.size >= steps) {
        const { kind: _, ...did } = chosen.mechanism;
        await ledger.commit(receipt, chosen.token, { ...proof, ...did } as typeof proof);
      } else {
        const [step, history] = [choose(steps), choose(3)];
        await ledger.recordStep(receipt, chosen.token, step, String(history).repeat(64));
        chosen.used.add(`${step}/${history}`);
      }
    }
  };
  for (let done = 0; done < 60; done += 1) {
    await act().catch((error: unknown) => {
      if (!(error instanceof EpsilonflowError) || !refusals.includes(error.code)) throw error;
    });
  }
  return [...open.values()];
}

interface Row {
  kind: string;
  entry_id: string;
  payload: string;
  private_payload: string | null;
}

/**
 * Workflows that began anything, and those of them that had begun nothing when the tight figure alone admitted their
 * plan. A plan that was released whole before it began stands by neither rule.
 */
function begunBy(rows: readonly Row[]): { all: Set<string>; tight: Set<string> } {
  const workflows = new Map<string, string>();
  const open = new Map<string, Set<string>>();
  const [admitted, all, tight] = [new Set<string>(), new Set<string>(), new Set<string>()];
  for (const { kind, entry_id: id, payload, private_payload: hidden } of rows) {
    const { admittedBy } = JSON.parse(payload) as { admittedBy?: string };
    const { workflowId } = JSON.parse(hidden ?? '{}') as { workflowId?: string };
    if (kind === 'reserved') {
      workflows.set(id, workflowId!);
      open.set(workflowId!, (open.get(workflowId!) ?? new Set()).add(id));
      if (admittedBy === 'fixed-plan') admitted.add(workflowId!);
    }
    const workflow = workflows.get(id);
    if (workflow === undefined) continue;
    if (kind === 'begun') {
      all.add(workflow);
      if (admitted.has(workflow)) tight.add(workflow);
    }
    if (kind === 'released' && open.get(workflow)!.delete(id) && open.get(workflow)!.size === 0 && !all.has(workflow)) {
      admitted.delete(workflow);
    }
  }
  return { all, tight };
}

// From one that holds the first mechanism by its tight figure alone to one that holds two plans by the filter.
const budgets = [3.5, 4.5, 5, 6.5, 9];

describe.each(ledgerDatabases('random lives of entries'))('on $name', (database) => {
  beforeAll(database.setUp);
  afterAll(database.tearDown);

  /** Kinds of rows, and by which rule entries were admitted. */
  const seen = new Set<string>();
  const seeds = Array.from({ length: database.name === 'SQLite' ? 25 : 10 }, (_, seed) => seed);

  test.each(seeds)('whatever happens, what ran fits the budget, is charged and can be verified (%i)', async (seed) => {
    const budget = budgets[seed % budgets.length]!;
    const url = await database.fresh();
    const ledger = await openLedger(url);
    await ledger.register([registration()]);
    const open = await lives(ledger, budget, seed);
    await ledger.verify();
    await ledger.close();

    const rows = (await database.execute(
      url,
      'select kind, entry_id, payload, private_payload from ledger_rows order by sequence',
    )) as unknown as Row[];
    for (const { kind, payload } of rows) {
      seen.add(kind);
      seen.add(String((JSON.parse(payload) as { admittedBy?: string }).admittedBy));
    }
    // Where both rules held on one account, each with all of delta, the promise would be at twice delta.
    const { all, tight } = begunBy(rows);
    if (tight.size > 0) expect([...all]).toEqual([...tight]);
    if (tight.size > 0) seen.add('begun by its tight figure alone');
    if (all.size > 1) seen.add('two experiments under the filter');
    const ran = open.filter(({ used }) => used.size > 0);
    const spending = spendingOf(ran.map((one): Charge => ({ mechanism: one.mechanism, applications: one.used.size })));
    const isOnePlan = new Set(ran.map(({ workflow }) => workflow)).size <= 1;
    const fits =
      filterEpsilon(spending, delta) <= budget ||
      (isOnePlan && composedEpsilon(spending.events, delta).epsilon <= budget);
    expect(fits).toBe(true);
    for (const { receipt, used } of ran) {
      const [row] = await database.execute(url, `select charged from entries where id = '${receipt.entryId}'`);
      expect(Number(row!['charged'])).toBeGreaterThanOrEqual(used.size);
    }
  });

  test('among them are plans that either rule admitted, repeated steps, and charges that fell', () => {
    expect([...seen].sort()).toEqual(
      expect.arrayContaining([
        'begun by its tight figure alone',
        'extended',
        'fixed-plan',
        'reduced',
        'released',
        'renyi-filter',
        'two experiments under the filter',
      ]) as string[],
    );
  });
});
