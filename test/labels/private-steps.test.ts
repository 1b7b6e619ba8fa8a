import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { asyncLocalStorage, type Context } from '@temporalio/activity';
import type { Client } from '@temporalio/client';
import { WorkflowNotFoundError } from '@temporalio/common';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { takeAuthority, type Authority } from '../../activities/authority.ts';
import { createBudgetActivities } from '../../activities/budget.ts';
import type { StepOutcome } from '../../activities/contract.ts';
import { closeEndedSteps, recoverDeadAttempts } from '../../activities/recovery.ts';
import { createStepActivities } from '../../activities/run-step.ts';
import {
  claimWorkFolder,
  createNoiseKey,
  destroyWorkFolder,
  dropClaim,
  hasNoiseKey,
  keepRecordCount,
  keptRecordCounts,
  privateWorkFolder,
} from '../../activities/work-folder.ts';
import type { WorkerParts } from '../../activities/worker-parts.ts';
import { keyFingerprint, readNoiseKey } from '../../privacy/noise-key.ts';
import { openLedger, paymentOf, sealMechanism, type Ledger, type Receipt } from '../../privacy/ledger/index.ts';
import { chargesOf } from '../../schemas/charges.ts';
import { lineageOf } from '../../schemas/lineage.ts';
import type { Mechanism, Plan, PlanNode } from '../../schemas/plan.ts';
import { statePaths } from '../../stack/paths.ts';
import { openStore } from '../../store/index.ts';
import { mechanism } from '../privacy/ledger-fixture.ts';

const release = { kind: 'discrete-laplace', scale: 10, sensitivity: 1 } as const;
const charge = { dataset: 'people', delta: 1e-5, accountant: 'rdp' } as const;

const unbounded = { kind: 'unbounded' } as const;
const seal = (of: Mechanism): string => sealMechanism({ digest: 'd', delta: charge.delta }, of);

/** A generator, a set that it made, and a classifier of two charges on it. */
const generator = {
  id: 'generator',
  key: 'key of the generator',
  inputs: { data: { dataset: 'people' } },
  privacy: { ...charge, targetEpsilon: 'inf', epsilon: null, mechanism: unbounded, digest: seal(unbounded) },
} as unknown as PlanNode;
const classifier = {
  id: 'classifier',
  key: 'key of the classifier',
  inputs: { train: { nodes: ['generator'] }, test: { dataset: 'people' } },
  privacy: { ...charge, targetEpsilon: 'inf', epsilon: null, mechanism: unbounded, digest: seal(unbounded) },
  release: { ...charge, targetEpsilon: 0.1, epsilon: 0.1, mechanism: release, digest: seal(release) },
} as unknown as PlanNode;
const training = {
  id: 'training',
  key: 'key of the training',
  inputs: { data: { dataset: 'people' } },
  privacy: { ...charge, targetEpsilon: 1, epsilon: 1, mechanism, digest: seal(mechanism) },
} as unknown as PlanNode;
/** Of two charges that can be given back. */
const both = { ...training, id: 'both', key: 'key of both', release: classifier.release };
const plan = {
  digest: 'p',
  nodes: [generator, classifier, training, both],
  datasets: {
    people: {
      name: 'people',
      sensitivity: 'benchmark',
      digest: 'd',
      privacy: { unit: 'record', size: 100, counted: false, delta: 1e-5, budget: null },
    },
  },
} as unknown as Plan;
const run = { name: 'r', number: 1, workflowId: 'r/1-ab', planDigest: 'p' };

let home: string;
let ledger: Ledger;
let parts: WorkerParts;
let activities: ReturnType<typeof createBudgetActivities>;
const homeBefore = process.env['EPSILONFLOW_HOME'];

beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), 'private steps '));
  process.env['EPSILONFLOW_HOME'] = home;
  ledger = await openLedger(`sqlite:${join(home, 'ledger.db')}`);
  parts = {
    store: { ...openStore(), loadPlan: () => Promise.resolve(plan) },
    ledger: () => Promise.resolve(ledger),
    datasetSecret: () => Promise.resolve(Buffer.alloc(32)),
    trackerUri: () => Promise.resolve(null),
  };
  activities = createBudgetActivities(parts);
});
afterEach(async () => {
  await ledger.close();
  if (homeBefore === undefined) delete process.env['EPSILONFLOW_HOME'];
  else process.env['EPSILONFLOW_HOME'] = homeBefore;
  rmSync(home, { recursive: true, force: true });
});

const reserve = async (node: PlanNode): Promise<Receipt[]> =>
  (await activities.reserveBudget(run, [node.id], null)).receipts;

describe('a node with two charges', () => {
  it('gets an entry for each, on the accounts of its splits', async () => {
    const receipts = await reserve(classifier);
    expect(receipts.map(({ dataset }) => dataset)).toEqual(['people', 'people/test']);
    expect(new Set(receipts.map(({ entryId }) => entryId)).size).toBe(2);
    expect((await ledger.accounts()).sort()).toEqual(['people', 'people/test']);
  });

  it('does not start with one receipt, with one twice, or with them the other way round', async () => {
    const [training, counts] = (await reserve(classifier)) as [Receipt, Receipt];
    for (const receipts of [[training], [training, training], [counts, training], []]) {
      await expect(takeAuthority(parts, classifier, receipts, 1)).rejects.toMatchObject({ code: 'RECEIPT_INVALID' });
    }
    expect(await ledger.entryState(training)).toBe('reserved');
  });

  it('announces its release to the entry of the test split, fences both and commits both', async () => {
    const receipts = (await reserve(classifier)) as [Receipt, Receipt];
    await activities.openPrivateStep(run, receipts, null);
    const first = (await takeAuthority(parts, classifier, receipts, 1))!;
    await first.announceStep(0, 'ab'.repeat(32), 'release', null);
    const second = (await takeAuthority(parts, classifier, receipts, 2))!;
    await expect(first.announceStep(0, 'ab'.repeat(32), 'release', null)).rejects.toMatchObject({ code: 'FENCED' });
    await expect(first.checkFence()).rejects.toMatchObject({ code: 'FENCED' });
    await second.announceStep(0, 'ab'.repeat(32), 'release', null);
    const proof = { sampler: 'none', scale: 10, sensitivity: 1 } as const;
    await expect(ledger.commit(receipts[1], second.tokens[1]!, { ...proof, scale: 5 })).rejects.toMatchObject({
      code: 'MECHANISM_MISMATCH',
    });
    await ledger.commit(receipts[1], second.tokens[1]!, proof);
    await ledger.commit(receipts[0], second.tokens[0]!, null);
    expect((await ledger.accountSummary('people/test'))?.total).toBeCloseTo(0.1, 4);
  });
});

describe('openPrivateStep', () => {
  it('makes a key for entries that are reserved, and keeps one that is there', async () => {
    const receipts = await reserve(classifier);
    await activities.openPrivateStep(run, receipts, null);
    expect(await hasNoiseKey(privateWorkFolder(receipts))).toBe(true);
    await activities.openPrivateStep(run, receipts, null);
    expect(readdirSync(join(statePaths.privateStore(), 'work'))).toHaveLength(1);
  });

  it.each([0, 1])(
    'makes none when entry %d has begun: the same step would get other noise, uncounted',
    async (place) => {
      const receipts = await reserve(classifier);
      await ledger.begin(receipts[place]!, 1, null);
      await activities.openPrivateStep(run, receipts, null);
      expect(await hasNoiseKey(privateWorkFolder(receipts))).toBe(false);
    },
  );
});

describe('a noise key', () => {
  afterEach(() => {
    delete process.env['EPSILONFLOW_RUN_SECRET'];
  });
  const lost = { code: 'NOISE_KEY_LOST', retryable: false };

  it('that was lost is not replaced by one of a secret that is new or was exchanged', async () => {
    const receipts = await reserve(classifier);
    await activities.openPrivateStep(run, receipts, null);
    expect((await takeAuthority(parts, classifier, receipts, 1))?.isKeyed).toBe(true);
    const { directory } = privateWorkFolder(receipts);
    rmSync(directory, { recursive: true });
    for (const secret of ['a', 'b']) {
      process.env['EPSILONFLOW_RUN_SECRET'] = secret.repeat(32);
      await expect(takeAuthority(parts, classifier, receipts, 2)).rejects.toMatchObject(lost);
      rmSync(directory, { recursive: true });
    }
  });

  it('that was lost is made again by the same secret', async () => {
    process.env['EPSILONFLOW_RUN_SECRET'] = 'a'.repeat(32);
    const receipts = await reserve(classifier);
    await activities.openPrivateStep(run, receipts, null);
    await takeAuthority(parts, classifier, receipts, 1);
    rmSync(privateWorkFolder(receipts).directory, { recursive: true });
    expect((await takeAuthority(parts, classifier, receipts, 2))?.isKeyed).toBe(true);
  });

  it('that each of two hosts made for themselves is good on the first that begins', async () => {
    const receipts = await reserve(classifier);
    await activities.openPrivateStep(run, receipts, null);
    await takeAuthority(parts, classifier, receipts, 1);
    rmSync(privateWorkFolder(receipts).directory, { recursive: true });
    await createNoiseKey(privateWorkFolder(receipts), receipts);
    await expect(takeAuthority(parts, classifier, receipts, 2)).rejects.toMatchObject(lost);
  });

  it('that is gone lets an attempt hand in what is published, and nothing else', async () => {
    const receipts = await reserve(classifier);
    await activities.openPrivateStep(run, receipts, null);
    await takeAuthority(parts, classifier, receipts, 1);
    rmSync(privateWorkFolder(receipts).directory, { recursive: true });
    expect((await takeAuthority(parts, classifier, receipts, 2))?.isKeyed).toBe(false);
  });

  it('that is gone before all entries have begun begins no more of them, and all is given back', async () => {
    const receipts = await reserve(both);
    await activities.openPrivateStep(run, receipts, null);
    const { noiseKeyFile } = privateWorkFolder(receipts);
    // The first attempt died between the two.
    await ledger.begin(receipts[0]!, 1, keyFingerprint(await readNoiseKey(noiseKeyFile), receipts[0]!.entryId));
    rmSync(noiseKeyFile);
    await expect(takeAuthority(parts, both, receipts, 2)).rejects.toMatchObject(lost);
    expect(await ledger.entryState(receipts[1]!)).toBe('reserved');
    await activities.closePrivateStep(run, receipts);
    await activities.releaseBudget(run, null);
    const summary = await ledger.accountSummary('people');
    expect(summary?.total).toBe(0);
  });

  it('that is gone ends a step that is opened once more, with nothing begun anew', async () => {
    const receipts = await reserve(training);
    await activities.openPrivateStep(run, receipts, null);
    const before = (await takeAuthority(parts, training, receipts, 1))!;
    await before.announceStep(0, 'ab'.repeat(32), 'training', 40);
    rmSync(privateWorkFolder(receipts).directory, { recursive: true });
    // As after a reset of the workflow.
    await activities.openPrivateStep(run, receipts, null);
    expect(await hasNoiseKey(privateWorkFolder(receipts))).toBe(false);
    const attempt = { info: { attempt: 1, base64TaskToken: 'token' } } as Context;
    const request = { run, nodeId: training.id, receipts, ledgerHead: null };
    const { finetune } = createStepActivities(parts);
    await expect(asyncLocalStorage.run(attempt, () => finetune(request))).rejects.toMatchObject(lost);
    expect(await hasNoiseKey(privateWorkFolder(receipts))).toBe(false);
    expect(await ledger.recordCount(receipts[0]!.entryId)).toBe(1);
    expect(await ledger.entryState(receipts[0]!)).toBe('begun');
  });

  it('is not made again once the step is committed', async () => {
    process.env['EPSILONFLOW_RUN_SECRET'] = 'a'.repeat(32);
    const receipts = await reserve(classifier);
    await activities.openPrivateStep(run, receipts, null);
    const { tokens } = (await takeAuthority(parts, classifier, receipts, 1))!;
    await ledger.commit(receipts[0]!, tokens[0]!, null);
    rmSync(privateWorkFolder(receipts).directory, { recursive: true });
    expect((await takeAuthority(parts, classifier, receipts, 2))?.isKeyed).toBe(false);
    expect(existsSync(privateWorkFolder(receipts).directory)).toBe(false);
  });
});

describe('a noise key that workers with a secret can make again', () => {
  beforeEach(() => {
    process.env['EPSILONFLOW_RUN_SECRET'] = 'a'.repeat(32);
  });
  afterEach(() => {
    delete process.env['EPSILONFLOW_RUN_SECRET'];
  });

  /** A ledger in which `happens` comes between an attempt's look at the entry and its begin. */
  const whileAsking = (happens: () => Promise<void>): WorkerParts => ({
    ...parts,
    ledger: () =>
      Promise.resolve(
        new Proxy(ledger, {
          get(target, name) {
            const value: unknown = Reflect.get(target, name);
            if (name !== 'begin') return typeof value === 'function' ? (value.bind(target) as unknown) : value;
            return async (...args: Parameters<Ledger['begin']>) => {
              await happens();
              return target.begin(...args);
            };
          },
        }),
      ),
  });

  it('is destroyed again when the step is committed meanwhile', async () => {
    const receipts = await reserve(generator);
    const { tokens } = (await takeAuthority(parts, generator, receipts, 1))!;
    await activities.closePrivateStep(run, receipts);
    const late = await takeAuthority(
      whileAsking(() => ledger.commit(receipts[0]!, tokens[0]!, null)),
      generator,
      receipts,
      2,
    );
    expect(late?.isKeyed).toBe(false);
    expect(existsSync(privateWorkFolder(receipts).directory)).toBe(false);
  });

  it('is not made for an entry that was released, and destroyed when that happens meanwhile', async () => {
    const receipts = await reserve(generator);
    const release = async (): Promise<void> => void (await ledger.release(run.workflowId));
    const refused = { code: 'RECEIPT_INVALID' };
    await expect(takeAuthority(whileAsking(release), generator, receipts, 1)).rejects.toMatchObject(refused);
    expect(await hasNoiseKey(privateWorkFolder(receipts))).toBe(false);
    await expect(takeAuthority(parts, generator, receipts, 2)).rejects.toMatchObject(refused);
    expect(await hasNoiseKey(privateWorkFolder(receipts))).toBe(false);
  });
});

describe('an older copy of the ledger that lacks no row of the chain, but records of steps,', () => {
  const digest = 'ab'.repeat(32);
  const file = (): string => join(home, 'ledger.db');

  /** Exchanges the ledger for one from between the second record and the third. */
  async function rollBack(): Promise<{ receipts: Receipt[]; authority: Authority }> {
    const receipts = await reserve(training);
    await activities.openPrivateStep(run, receipts, null);
    const authority = (await takeAuthority(parts, training, receipts, 1))!;
    for (const step of [0, 1]) await authority.announceStep(step, digest, 'training', 40);
    for (const part of ['', '-wal']) cpSync(`${file()}${part}`, `${file()}.copy${part}`);
    await authority.announceStep(2, digest, 'training', 40);
    await ledger.close();
    for (const part of ['', '-wal']) renameSync(`${file()}.copy${part}`, `${file()}${part}`);
    ledger = await openLedger(`sqlite:${file()}`);
    await ledger.verify();
    return { receipts, authority };
  }

  it('lets no attempt go on', async () => {
    const { receipts } = await rollBack();
    const head = await ledger.head();
    const refused = {
      code: 'LEDGER_ROLLED_BACK',
      message: expect.stringContaining('has 2 step records of training and had 3') as string,
    };
    await expect(takeAuthority(parts, training, receipts, 2)).rejects.toMatchObject(refused);
    expect(await ledger.head()).toEqual(head);
  });

  it('stops an attempt that is under way', async () => {
    const { authority } = await rollBack();
    // A step that is repeated from another state would hide what is lost.
    await expect(authority.announceStep(1, 'cd'.repeat(32), 'training', 40)).rejects.toMatchObject({
      code: 'LEDGER_ROLLED_BACK',
    });
  });

  it('is committed to by no attempt', async () => {
    const { receipts, authority } = await rollBack();
    const request = { run, nodeId: training.id, receipts, ledgerHead: null };
    const commits = authority.tokens.map((token) => ({ token, proof: null }));
    await expect(
      activities.commitPrivateStep(request, { commits, ledgerHead: null } as unknown as StepOutcome),
    ).rejects.toMatchObject({ code: 'LEDGER_ROLLED_BACK' });
  });

  it('gives back nothing of the entry when the run ends, nor ever after', async () => {
    const { receipts } = await rollBack();
    const before = (await ledger.accountSummary('people'))?.total;
    for (const end of ['first', 'second']) {
      await activities.closePrivateStep(run, receipts);
      expect(await hasNoiseKey(privateWorkFolder(receipts)), end).toBe(false);
      await activities.releaseBudget(run, null);
      await activities.reserveBudget(run, [training.id], null);
      expect((await ledger.accountSummary('people'))?.total).toBe(before);
    }
  });

  it('is sought for in what attempts that overlapped have left, torn lines included', async () => {
    const [receipt] = (await reserve(training)) as [Receipt];
    const work = privateWorkFolder([receipt]);
    for (const count of [12, 11]) await keepRecordCount(work, [receipt], receipt, count);
    appendFileSync(join(work.directory, 'records'), `\n${receipt.entryId} 9`);
    expect(await keptRecordCounts(work)).toEqual(new Map([[receipt.entryId, 12]]));
    await keepRecordCount(work, [receipt], receipt, 13);
    expect(await keptRecordCounts(work)).toEqual(new Map([[receipt.entryId, 13]]));
  });
});

it('a run that ends leaves nothing of its closed steps', async () => {
  const receipts = await reserve(training);
  await activities.openPrivateStep(run, receipts, null);
  const authority = (await takeAuthority(parts, training, receipts, 1))!;
  await authority.announceStep(0, 'ab'.repeat(32), 'training', 40);
  await activities.closePrivateStep(run, receipts);
  await activities.releaseBudget(run, null);
  expect(readdirSync(join(statePaths.privateStore(), 'work'))).toEqual([]);
  expect((await ledger.accountSummary('people'))?.experiments[0]?.entries.begun).toBe(1);
});

describe('a step that failed before its first noise', () => {
  it.each([
    ['nothing, where its folder tells that nobody else had its key', 'folder'],
    ['all, without its folder', 'no folder'],
    ['all, where others can make its key', 'shared secret'],
  ])('is charged %s', async (_, left) => {
    if (left === 'shared secret') process.env['EPSILONFLOW_RUN_SECRET'] = 'ab'.repeat(32);
    const receipts = await reserve(training);
    await activities.openPrivateStep(run, receipts, null);
    await takeAuthority(parts, training, receipts, 1);
    await activities.closePrivateStep(run, receipts);
    expect(await hasNoiseKey(privateWorkFolder(receipts))).toBe(false);
    delete process.env['EPSILONFLOW_RUN_SECRET'];
    const whole = (await ledger.accountSummary('people'))?.total;
    expect(whole).toBeGreaterThan(0);
    if (left === 'no folder') await destroyWorkFolder(privateWorkFolder(receipts));
    await activities.releaseBudget(run, null);
    expect((await ledger.accountSummary('people'))?.total).toBe(left === 'folder' ? 0 : whole);
    expect(readdirSync(join(statePaths.privateStore(), 'work'))).toEqual([]);
  });
});

describe('paymentOf', () => {
  const commit = async (node: PlanNode): Promise<string[]> => {
    const receipts = await reserve(node);
    for (const [place, receipt] of receipts.entries()) {
      const token = await ledger.begin(receipt, 1, null);
      const counts = chargesOf(node)[place]!.mechanism.kind === 'discrete-laplace';
      await ledger.commit(receipt, token, counts ? { sampler: 'none', scale: 10, sensitivity: 1 } : null);
    }
    return receipts.map(({ entryId }) => entryId);
  };

  it('finds every entry that a result rests on, and nothing when one is missing', async () => {
    const wanted = lineageOf(plan).chargesBehind('classifier');
    expect(wanted).toHaveLength(3);
    const own = await commit(classifier);
    // The entry of the generator, upstream, is not there: no reuse.
    expect(await paymentOf(ledger, own, wanted)).toBeNull();
    const all = [...own, ...(await commit(generator))];
    expect([...(await paymentOf(ledger, all, wanted))!.keys()].sort()).toEqual([...wanted].sort());
    for (const left of all) {
      expect(
        await paymentOf(
          ledger,
          all.filter((id) => id !== left),
          wanted,
        ),
      ).toBeNull();
    }
    expect(await paymentOf(ledger, [...all, 'an entry of another ledger'], wanted)).toBeNull();
  });

  it('takes no entry that is only reserved or begun', async () => {
    const receipts = await reserve(generator);
    const wanted = lineageOf(plan).chargesBehind('generator');
    const ids = receipts.map(({ entryId }) => entryId);
    expect(await paymentOf(ledger, ids, wanted)).toBeNull();
    await ledger.begin(receipts[0]!, 1, null);
    expect(await paymentOf(ledger, ids, wanted)).toBeNull();
  });

  it('finds nothing to pay behind public results, and nothing paid for where a manifest names no entry', async () => {
    expect(await paymentOf(ledger, undefined, [])).toEqual(new Map());
    expect(await paymentOf(ledger, [], ['some/charge'])).toBeNull();
  });
});

describe('a worker that starts', () => {
  /** What Temporal says of workflows, by id. */
  const clientOf = (states: Record<string, string>): Client =>
    ({
      workflow: {
        getHandle: (id: string) => ({
          describe: async () => {
            if (states[id] === undefined) throw new WorkflowNotFoundError('not found', id, undefined);
            return Promise.resolve({ status: { name: states[id] } });
          },
        }),
      },
    }) as unknown as Client;

  it('destroys keys of entries that are committed or were released, while their run goes on too', async () => {
    const opened = await reserve(classifier);
    await activities.openPrivateStep(run, opened, null);
    const committed = await reserve(generator);
    await activities.openPrivateStep(run, committed, null);
    const { tokens } = (await takeAuthority(parts, generator, committed, 1))!;
    await ledger.commit(committed[0]!, tokens[0]!, null);
    await recoverDeadAttempts(clientOf({ [run.workflowId]: 'RUNNING' }), parts);
    expect(await hasNoiseKey(privateWorkFolder(committed))).toBe(false);
    expect(await hasNoiseKey(privateWorkFolder(opened))).toBe(true);
    await ledger.release(run.workflowId);
    await recoverDeadAttempts(clientOf({ [run.workflowId]: 'RUNNING' }), parts);
    expect(await hasNoiseKey(privateWorkFolder(opened))).toBe(false);
  });

  it('destroys keys and checkpoints of runs that were terminated, and of no others', async () => {
    const states = { ended: 'TERMINATED', timed: 'TIMED_OUT', going: 'RUNNING', paused: 'PAUSED' };
    const folders = new Map<string, string>();
    for (const workflowId of [...Object.keys(states), 'unknown']) {
      const receipts = [
        { entryId: `e-${workflowId}`, workflowId, dataset: 'people', nodeKey: 'k', mechanismDigest: 'm' },
      ];
      const work = privateWorkFolder(receipts);
      await createNoiseKey(work, receipts);
      writeFileSync(join(work.directory, 'checkpoint'), 'weights');
      folders.set(workflowId, work.directory);
    }
    await recoverDeadAttempts(clientOf(states), parts);
    const left = [...folders].filter(([, folder]) => existsSync(folder)).map(([id]) => id);
    expect(left).toEqual(['going', 'paused', 'unknown']);
    expect(existsSync(join(folders.get('going')!, 'noise.key'))).toBe(true);
  });

  it('looks on while it runs, and leaves alone what a living attempt holds', async () => {
    const receipts = await reserve(generator);
    await activities.openPrivateStep(run, receipts, null);
    const work = privateWorkFolder(receipts);
    const { tokens } = (await takeAuthority(parts, generator, receipts, 1))!;
    const claim = { taskToken: 'attempt', nodeId: generator.id, workflowId: run.workflowId, attempt: 1 };
    await claimWorkFolder(work, claim);
    const look = (): Promise<void> => closeEndedSteps(clientOf({ [run.workflowId]: 'RUNNING' }), parts.ledger);
    // On another host, whose attempt has taken over.
    await ledger.commit(receipts[0]!, tokens[0]!, null);
    await look();
    expect(await hasNoiseKey(work)).toBe(true);
    await dropClaim(work, claim.taskToken);
    await look();
    expect(existsSync(work.directory)).toBe(false);
  });

  it('looks at all folders, also where one can not be asked about', async () => {
    const states = { ended: 'TERMINATED', later: 'TERMINATED' };
    const client = clientOf(states);
    const folders = ['asked', ...Object.keys(states)].map((workflowId) => {
      const receipts = [
        { entryId: `e-${workflowId}`, workflowId, dataset: 'people', nodeKey: 'k', mechanismDigest: 'm' },
      ];
      return { workflowId, receipts, work: privateWorkFolder(receipts) };
    });
    for (const { work, receipts } of folders) await createNoiseKey(work, receipts);
    const { getHandle } = client.workflow;
    client.workflow.getHandle = ((id: string) =>
      id === 'asked' ? { describe: () => Promise.reject(new Error('no answer')) } : getHandle(id)) as typeof getHandle;
    await expect(closeEndedSteps(client, parts.ledger)).rejects.toThrow('no answer');
    const left = folders.filter(({ work }) => existsSync(work.directory)).map(({ workflowId }) => workflowId);
    expect(left).toEqual(['asked']);
  });
});
