/** The evidence of a run: gathered from real ledger and store, written, read and recomputed; no change goes unnoticed. */

import { mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { planDigest } from '../../schemas/plan-digest.ts';
import { chainRow, type EventKind } from '../../privacy/ledger/chain.ts';
import type { ChainedRow, Ledger } from '../../privacy/ledger/index.ts';
import type { MechanismProof } from '../../schemas/artifact.ts';
import { canonicalJson } from '../../schemas/canonical-json.ts';
import type { JsonValue, NodeCharge, Plan, PlanNode } from '../../schemas/plan.ts';
import type { Store } from '../../store/index.ts';
import { readBundle, writeBundle, type Bundle } from '../../tracking/evidence/bundle.ts';
import { gatherEvidence } from '../../tracking/evidence/gather.ts';
import { verifyEvidence } from '../../tracking/evidence/verify.ts';
import { chargeDifference, lossesIn, type EntryEvidence } from '../../tracking/evidence/verify-entries.ts';
import { verifyFiles } from '../../tracking/evidence/verify-files.ts';
import type { RunFolder } from '../../tracking/runs.ts';
import { makeHonestRun, type HonestRun } from './honest-run.ts';

let honest: HonestRun;
let ledger: Ledger;
let store: Store;
let plan: Plan;
let run: RunFolder;
let bundle: Bundle;

beforeAll(async () => {
  honest = await makeHonestRun();
  ({ ledger, store, plan, run } = honest);
  bundle = await gatherEvidence(honest);
});

afterAll(() => honest.close());

describe('evidence', () => {
  it('of an honest run holds, in the run and in a bundle', async () => {
    const to = join(honest.folder, 'evidence');
    expect(await writeBundle(bundle, to)).toEqual(['SHA256SUMS', 'evidence.json', 'plan.json', 'spec.yaml']);
    for (const each of [bundle, readBundle(to)]) {
      const { checked, mismatches } = await verifyEvidence(each);
      expect(mismatches).toEqual([]);
      expect(checked).toMatchObject({ spec: 1, epsilon: 2, account: 1, statement: 1 });
      expect(checked['proof']).toBe(4);
    }
    expect(await verifyFiles(bundle, store)).toEqual({ checked: { files: 8 }, mismatches: [] });
  });

  it('is refused when a file of the bundle was changed or is missing', async () => {
    const to = join(honest.folder, 'changed');
    await writeBundle(bundle, to);
    writeFileSync(
      join(to, 'plan.json'),
      readFileSync(join(to, 'plan.json'), 'utf8').replace('"steps":50', '"steps":5'),
    );
    expect(() => readBundle(to)).toThrow(expect.objectContaining({ code: 'BUNDLE_INVALID' }));
    mkdirSync(join(honest.folder, 'none'));
    expect(() => readBundle(join(honest.folder, 'none'))).toThrow(/SHA256SUMS can't be read/);
  });

  it('shows nobody else, no fingerprint of a key and no size of a batch', async () => {
    const to = join(honest.folder, 'own');
    await writeBundle(bundle, to);
    const shown = readFileSync(join(to, 'evidence.json'), 'utf8') + JSON.stringify(bundle);
    // Rows of their entry are not in the bundle; where a result rests on it, they are.
    const theirs = JSON.stringify(await ledger.rowsBehind('nobody', [honest.elsewhere]));
    expect(theirs).toContain('ab'.repeat(32));
    for (const text of [shown, theirs]) {
      expect(text).not.toMatch(
        /somebody-else|their-generator|(de){32}|keyFingerprint|(f1){32}|batchSizes|batch_size|8124771/i,
      );
    }
    // A result may come from whatever run.
    expect(bundle.evidence.results.some(({ charges }) => charges.length > 0)).toBe(true);
    expect(JSON.stringify(bundle.evidence.results)).not.toContain('workflowId');
    const { rows } = bundle.evidence.ledger;
    expect(rows.filter(({ kind }) => kind === 'account')).toHaveLength(1);
    await ledger.verify();
  });

  /** A bundle whose plan is another, with digests that fit. */
  function planned(change: (node: PlanNode) => void): Bundle {
    const changed = structuredClone(bundle);
    for (const node of changed.plan.nodes) change(node);
    const digest = planDigest(changed.plan);
    Object.assign(changed.plan, { digest });
    changed.evidence.run.planDigest = digest;
    changed.evidence.statement.planDigest = digest;
    return changed;
  }

  it('holds of a plan from before training had a setting for memory', async () => {
    const older = planned(({ params }) => delete (params as { memory?: string }).memory);
    expect(older.plan.digest).not.toBe(plan.digest);
    expect((await verifyEvidence(older)).mismatches).toEqual([]);
  });

  it('says what of the program has changed since the plan was made', async () => {
    const older = planned((node) => node.kind === 'generate' && (node.kindVersion = 1));
    older.evidence.madeBy = '0.0.1';
    const { mismatches } = await verifyEvidence(older);
    const message = expect.stringMatching(
      /another plan .* made by Epsilonflow 0\.0\.1, here .*; generate of version 1, here/,
    );
    expect(mismatches).toEqual([{ check: 'spec', subject: plan.name, message: message as string }]);
  });

  it('holds where another processor rounds the figures of the statement otherwise', async () => {
    const rounded = structuredClone(bundle);
    const [dataset] = rounded.evidence.statement.datasets;
    dataset!.chargedEpsilon! *= 1 + 2 ** -50;
    expect(dataset!.chargedEpsilon).toBeGreaterThan(bundle.evidence.statement.datasets[0]!.chargedEpsilon!);
    expect((await verifyEvidence(rounded)).mismatches).toEqual([]);
  });

  it('is not written over something else', async () => {
    const to = join(honest.folder, 'taken');
    mkdirSync(to);
    writeFileSync(join(to, 'mine'), '');
    await expect(writeBundle(bundle, to)).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
  });

  const dp = (changed: Bundle): PlanNode => changed.plan.nodes.find(({ privacy }) => privacy?.epsilon !== null)!;
  const rowOf = (changed: Bundle, kind: string) => changed.evidence.ledger.rows.find((row) => row.kind === kind)!;

  it.each<[string, string, (changed: Bundle) => void]>([
    ['another spec', 'spec', (changed) => (changed.spec = changed.spec.replace('epsilon: [4', 'epsilon: [5'))],
    ['a lower epsilon', 'epsilon', (changed) => (dp(changed).privacy!.epsilon! -= 0.1)],
    ['a lower sum', 'account', (changed) => (Object.values(changed.plan.privacy)[0]!.experiment -= 0.1)],
    [
      'another mechanism in the plan',
      'plan',
      (changed) => Object.assign(dp(changed).privacy!.mechanism, { noiseMultiplier: 9 }),
    ],
    [
      'a row that was altered',
      'ledger',
      (changed) => (rowOf(changed, 'reserved').payload = rowOf(changed, 'reserved').payload.replace('1', '2')),
    ],
    ['rows in another order', 'ledger', (changed) => changed.evidence.ledger.rows.reverse()],
    [
      'a result that nobody paid for',
      'result',
      (changed) =>
        changed.evidence.ledger.rows.splice(changed.evidence.ledger.rows.indexOf(rowOf(changed, 'committed')), 1),
    ],
    [
      'a result that hides what it rests on',
      'result',
      (changed) => (changed.evidence.results.find(({ paidBy }) => paidBy.length > 0)!.paidBy = []),
    ],
    [
      'another proof',
      'proof',
      (changed) => {
        const charge = changed.evidence.results.flatMap(({ charges }) => charges).find(({ proof }) => proof !== null)!;
        charge.proof = { ...charge.proof!, steps: 1 } as MechanismProof;
      },
    ],
    ['a kinder statement', 'statement', (changed) => (changed.evidence.statement.datasets[0]!.epsilon = 1)],
    ['a run of another plan', 'plan', (changed) => (changed.evidence.run.planDigest = '0'.repeat(64))],
  ])('shows %s', async (_, check, change) => {
    const changed = structuredClone(bundle);
    change(changed);
    const { mismatches } = await verifyEvidence(changed);
    expect(mismatches.map((mismatch) => mismatch.check)).toContain(check);
  });

  /** The rows with other payloads or accounts, and hashes that fit. */
  function forge(changed: Bundle, change: (row: ChainedRow, payload: Record<string, unknown>) => void): void {
    const { rows, head } = changed.evidence.ledger;
    let before = { sequence: 0, hash: '' };
    for (const row of rows) {
      const payload = JSON.parse(row.payload) as Record<string, unknown>;
      change(row, payload);
      const hash = row.sequence === before.sequence + 1 && before.sequence > 0 ? before.hash : row.previousHash;
      const fact = { ...row, kind: row.kind as EventKind, payload: payload as JsonValue };
      before = Object.assign(row, chainRow({ sequence: row.sequence - 1, hash }, fact, row.time));
      if (row.sequence === head.sequence) head.hash = row.hash;
    }
  }

  const paidFor = (changed: Bundle) =>
    changed.evidence.results.find(({ charges }) => charges.some(({ proof }) => proof !== null))!;

  it.each<[string, string, string, (changed: Bundle) => void]>([
    ['no results', 'result', 'no results', (changed) => (changed.evidence.results = [])],
    [
      'a completed result that is left out',
      'result',
      'was completed, but',
      (changed) => (changed.evidence.results = changed.evidence.results.filter(({ paidBy }) => paidBy.length === 0)),
    ],
    [
      'a paid result that is left out',
      'result',
      'paid for it, but it has no result',
      (changed) => {
        const { node } = paidFor(changed);
        changed.evidence.results = changed.evidence.results.filter((result) => result.node !== node);
        changed.evidence.completed = changed.evidence.completed.filter((one) => one.node !== node);
      },
    ],
    [
      'a result of another key than the one completed',
      'result',
      'another content key',
      (changed) => (changed.evidence.completed[0]!.key = '0'.repeat(64)),
    ],
    [
      'data that belong to another account',
      'result',
      'was charged to account reviews, reviews belongs to other',
      (changed) =>
        forge(changed, (row, payload) => {
          if (row.kind === 'digest') row.account = 'other';
          // As rows of older versions are.
          delete payload['data'];
          if (row.kind === 'reserved') payload['workflowId'] = changed.evidence.run.workflowId;
        }),
    ],
    [
      'a reservation for data of another account',
      'ledger',
      'charges account reviews for data that belong to other',
      (changed) => forge(changed, (row) => row.kind === 'digest' && (row.account = 'other')),
    ],
    [
      'a reservation at another delta',
      'ledger',
      'which is not that of its mechanism, data and delta',
      (changed) =>
        forge(
          changed,
          (row, payload) => row.kind === 'reserved' && Object.assign(payload['data'] as object, { delta: 1e-3 }),
        ),
    ],
    [
      'a charge to an account of other data',
      'ledger',
      'was charged to account reviews; no row says that reviews belongs there',
      (changed) =>
        forge(changed, (row, payload) => {
          if (row.kind === 'digest') payload['digest'] = '0';
          // As rows of older versions are.
          delete payload['data'];
          if (row.kind === 'reserved') payload['workflowId'] = changed.evidence.run.workflowId;
        }),
    ],
    [
      'a reservation that says nothing of whose it is',
      'ledger',
      'names neither its data nor its workflow',
      (changed) => forge(changed, (_, payload) => delete payload['data']),
    ],
    [
      'a mechanism that was reserved for less',
      'ledger',
      'charges 1 of the 50 applications',
      (changed) => forge(changed, (row, payload) => row.kind === 'reserved' && (payload['charged'] = 1)),
    ],
    [
      'repeated steps that nobody was charged for',
      'result',
      'was charged for 50 applications, it ran 53',
      (changed) => forge(changed, (row, payload) => row.kind === 'committed' && (payload['repeatedSteps'] = 3)),
    ],
    [
      'a manifest without its charges',
      'result',
      'its manifest has 0 charges, the plan 1',
      (changed) => (paidFor(changed).charges = []),
    ],
    [
      'another proof than the one committed',
      'proof',
      'it is not the proof that was committed',
      (changed) => {
        const [charge] = paidFor(changed).charges;
        charge!.proof = { ...charge!.proof!, seen: 1 } as unknown as MechanismProof;
      },
    ],
    [
      'a manifest with a lower epsilon',
      'result',
      'other mechanisms behind it',
      (changed) => (paidFor(changed).privacy[0]!.epsilon = 1),
    ],
    [
      'a manifest that hides a mechanism',
      'result',
      'other mechanisms behind it',
      (changed) => (paidFor(changed).privacy = []),
    ],
    ['a torn payload', 'ledger', 'was changed after', (changed) => (rowOf(changed, 'reserved').payload = '{')],
    ['a torn proof', 'proof', "can't be checked", (changed) => (rowOf(changed, 'committed').payload = '{')],
    [
      'a reservation of nothing',
      'ledger',
      'reserves no mechanism',
      (changed) => forge(changed, (row, payload) => row.kind === 'reserved' && delete payload['mechanism']),
    ],
    ['an unknown dataset', 'plan', 'has no dataset unknown', (changed) => (dp(changed).privacy!.dataset = 'unknown')],
    [
      'an unknown account',
      'account',
      'epsilon 0, not',
      (changed) => {
        changed.plan.privacy['unknown'] = Object.values(changed.plan.privacy)[0]!;
      },
    ],
    [
      'a plan without a mechanism',
      'epsilon',
      "can't be checked",
      (changed) => {
        Object.assign(dp(changed).privacy!, { mechanism: null });
      },
    ],
    [
      'a row that is none',
      'ledger',
      "can't be checked",
      (changed) => {
        changed.evidence.ledger.rows.push(null as unknown as ChainedRow);
      },
    ],
    [
      'a result that is none',
      'result',
      "can't be checked",
      (changed) => {
        changed.evidence.results.push(null as never);
      },
    ],
  ])('names %s', async (_, check, message, change) => {
    const changed = structuredClone(bundle);
    change(changed);
    const { mismatches } = await verifyEvidence(changed);
    const found = expect.stringContaining(message) as string;
    expect(mismatches).toContainEqual(expect.objectContaining({ check, message: found }));
  });

  it('knows the account of test records from that of training records', () => {
    const charge: NodeCharge = {
      ...dp(bundle).privacy!,
      mechanism: { kind: 'discrete-laplace', scale: 10, sensitivity: 1 },
    };
    const { digest } = plan.datasets[charge.dataset]!;
    const accounts = new Map([
      [digest, 'reviews'],
      [`${digest}/test`, 'reviews/test'],
    ]);
    const of = (account: string): EntryEvidence => ({
      ...{ account, isOwn: true, node_key: 'k', mechanism_digest: 'd', proof: null },
      ...{ mechanism: canonicalJson(charge.mechanism), charged: 1, committed: true, repeated: 0 },
    });
    expect(chargeDifference(plan, charge, of('reviews/test'), accounts)).toBeNull();
    expect(chargeDifference(plan, charge, of('reviews'), accounts)).toBe(
      'was charged to account reviews, reviews/test belongs to reviews/test',
    );
  });

  it('tells of what was lost with an earlier ledger, and holds with the row that says so', async () => {
    const why = { author: 'board', reason: 'the disk is lost' };
    const expected = { ledger: 'an earlier one', sequence: 7, hash: 'ab', source: 'a note' };
    await ledger.acknowledge([{ problem: 'exchanged', expected }], why);
    const to = join(honest.folder, 'acknowledged');
    await writeBundle(await gatherEvidence({ run, plan, store, ledger }), to);
    const read = readBundle(to);
    expect((await verifyEvidence(read)).mismatches).toEqual([]);
    const row = rowOf(read, 'acknowledged');
    expect(lossesIn(read.evidence.ledger)).toEqual([{ problem: 'exchanged', row: row.sequence, ...why }]);

    row.payload = row.payload.replace('board', 'nobody');
    const { mismatches } = await verifyEvidence(read);
    expect(mismatches).toEqual([
      {
        check: 'ledger',
        subject: `row ${row.sequence}`,
        message: expect.stringContaining('was changed after it was written') as string,
      },
    ]);
  });

  it('is refused when it lacks a part, whatever its digests say', async () => {
    const to = join(honest.folder, 'lacking');
    const changed = structuredClone(bundle);
    Object.assign(changed.evidence, { results: null });
    await writeBundle(changed, to);
    expect(() => readBundle(to)).toThrow(expect.objectContaining({ code: 'BUNDLE_INVALID' }));
    expect(() => readBundle(to)).toThrow(/it has no results/);
  });

  it.each<[string, (directory: string) => void]>([
    ['cut', (directory) => truncateSync(join(directory, 'result.json'), 3)],
    ['gone', (directory) => rmSync(join(directory, 'result.json'))],
    ['without a manifest', (directory) => rmSync(join(directory, 'manifest.json'))],
  ])('tells of a stored result that is %s', async (_, damage) => {
    const node = plan.nodes.at(-1)!;
    const { directory } = (await store.lookup(node.key))!;
    const files = ['result.json', 'manifest.json'].map((name) => join(directory, name));
    const kept = files.map((file) => readFileSync(file));
    damage(directory);
    try {
      const { mismatches } = await verifyEvidence(await gatherEvidence({ run, plan, store, ledger }));
      const message = expect.stringContaining('was completed, but the store has no whole result') as string;
      expect(mismatches).toEqual([{ check: 'result', subject: node.id, message }]);
    } finally {
      for (const [index, file] of files.entries()) writeFileSync(file, kept[index]!);
    }
  });
});
