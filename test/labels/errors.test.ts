import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApplicationFailure } from '@temporalio/common';
import { CompiledQuery } from 'kysely';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { errorScopes } from '../../activities/error-scope.ts';
import { faultOf, stepError, toApplicationFailure, withMappedErrors } from '../../activities/errors.ts';
import { openStepLog } from '../../activities/step-log.ts';
import { openDatabase } from '../../privacy/ledger/database.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { statePaths } from '../../stack/paths.ts';
import { openStore } from '../../store/index.ts';
import { doorOf } from '../../tracking/door.ts';
import { makeUpRun, ownState, type MadeUpRun } from '../tracking/made-up-run.ts';
import { searchFolder } from './find-traces.ts';

let removeState: () => void;
beforeEach(() => {
  removeState = ownState();
});
afterEach(() => removeState());

const secret = 'what the record says';

/** All that Temporal would see of a failure. */
const seen = (failure: Error): string =>
  JSON.stringify({ ...failure, stack: failure.stack, message: failure.message, cause: failure.cause ?? null });

/** Of what the process of a step threw. */
async function told(sensitivity: 'private' | 'benchmark', thrown: unknown): Promise<string> {
  const { plan } = await makeUpRun({ seeds: [1], epsilons: [8], sensitivity });
  const door = doorOf(plan, plan.nodes[0]!);
  const keep = (): Promise<string> => Promise.resolve('kept');
  const error = stepError(faultOf(thrown), door, 'step.log');
  const failure = await toApplicationFailure(error, { failure: door.failure, keep });
  expect(failure).toBeInstanceOf(ApplicationFailure);
  return seen(failure);
}

describe('an error of a step on private records', () => {
  it.each([
    ['of a library', new TypeError(secret)],
    ['with a name that is no class', Object.assign(new Error('x'), { name: secret })],
    ['of a parser', new SyntaxError(`Unexpected token in "${secret}"`)],
    ['that is no error', secret],
    ['with a code that may quote', new EpsilonflowError('DATA_RECORD_INVALID', secret, { hint: secret })],
    ['with a cause', new EpsilonflowError('STEP_FAILED', 'x', { cause: new Error(secret) })],
  ])('%s tells nothing of them', async (_what, thrown) => {
    expect(await told('private', thrown)).not.toContain(secret);
  });

  it('tells its code and class, and where the whole is', async () => {
    expect(await told('private', new TypeError(secret))).toContain('It failed with TypeError.');
    expect(await told('private', new EpsilonflowError('DATA_ENCODING', secret))).toContain('DATA_ENCODING');
    expect(await told('private', new TypeError(secret))).toContain('step.log');
  });

  it('tells what a message without data says, and everything where data are not private', async () => {
    const changed = new EpsilonflowError('DATA_CHANGED', 'the file is another one', { hint: 'Run again.' });
    expect(await told('private', changed)).toContain('the file is another one');
    expect(await told('benchmark', new TypeError(secret))).toContain(secret);
  });
});

/** Errors as databases, disks and parsers make them, with `secret` where they quote. */
async function foreignErrors(folder: string): Promise<Record<string, unknown>> {
  const ledger = await openDatabase(`sqlite:${join(folder, 'ledger.db')}`);
  const sql = await rejection(ledger.database.executeQuery(CompiledQuery.raw(`select "${secret}" from nothing`)));
  await ledger.close();
  writeFileSync(join(folder, secret), '');
  const refused = Object.assign(new Error(`EACCES: permission denied, open '${secret}'`), {
    code: 'EACCES',
    path: join(folder, secret),
  });
  return {
    sql,
    'missing file': await rejection(readFile(join(folder, secret, 'x'))),
    'refused file': refused,
    'full disk': Object.assign(new Error(`ENOSPC, write '${secret}'`), { code: 'ENOSPC', path: secret }),
    parser: await rejection(Promise.resolve().then(() => JSON.parse(`{"text": ${secret}`) as unknown)),
    'csv parser': Object.assign(new Error(`Invalid Opening Quote: ${secret}`), { name: 'CsvError', record: [secret] }),
    library: new TypeError(secret),
    'class that is called like a code': Object.assign(new Error(secret), { name: 'FENCED' }),
    'class that quotes': Object.assign(new Error('x'), { name: secret.replaceAll(' ', '') }),
    'no error': secret,
    cause: new Error('outer', { cause: new Error(secret) }),
    'code that may quote': new EpsilonflowError('DATA_RECORD_INVALID', secret, { hint: secret }),
  };
}

const rejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => expect.fail('it did not fail'),
    (error: unknown) => error,
  );

describe('an error of any activity', () => {
  /** Throws the error out of a wrapped activity of each kind of argument; what Temporal would see, by activity. */
  async function seenOf(
    { record, plan }: Pick<MadeUpRun, 'record' | 'plan'>,
    thrown: unknown,
  ): Promise<Map<string, ApplicationFailure>> {
    const identity = { ...record, planDigest: plan.digest };
    const calls: Record<string, unknown[]> = {
      readPlanSlice: [plan.digest, 0],
      reserveBudget: [identity, []],
      commitPrivateStep: [{ run: identity, nodeId: plan.nodes[0]!.id, receipts: [] }, {}],
      finetune: [{ run: identity, nodeId: plan.nodes[0]!.id, receipts: [] }],
      pretrain: [{ run: identity, nodeId: 'a node that is not in the plan', receipts: [] }],
    };
    const throwing = Object.fromEntries(
      Object.keys(calls).map((name) => [name, () => Promise.reject(thrown as Error)]),
    );
    const wrapped = withMappedErrors(throwing, errorScopes({ store: openStore() }));
    const failures = new Map<string, ApplicationFailure>();
    for (const [name, args] of Object.entries(calls)) {
      const activity = wrapped[name] as (...args: unknown[]) => Promise<never>;
      failures.set(name, (await rejection(activity(...args))) as ApplicationFailure);
    }
    return failures;
  }

  it('tells nothing of private data, and keeps the whole where operators look', async () => {
    const made = await makeUpRun({ seeds: [1], epsilons: [8], sensitivity: 'private' });
    const folder = mkdtempSync(join(tmpdir(), 'foreign errors '));
    for (const [what, thrown] of Object.entries(await foreignErrors(folder))) {
      for (const [activity, failure] of await seenOf(made, thrown)) {
        const squeezed = seen(failure).replaceAll(secret.replaceAll(' ', ''), secret);
        expect([what, activity, squeezed]).not.toContainEqual(expect.stringContaining(secret));
        const { hint } = failure.details![0] as { hint: string };
        const quoting = what === 'full disk' || what === 'refused file';
        expect([what, activity, hint]).toContainEqual(expect.stringMatching(quoting ? /./ : /^The whole error is in /));
      }
    }
    rmSync(folder, { recursive: true });
    const logs = [
      join(statePaths.privateStore(), 'activities.log'),
      await openStepLog(made.record, made.plan.nodes[0]!),
    ];
    for (const file of logs) {
      expect(readFileSync(file, 'utf8').split(secret).length).toBeGreaterThan(10);
      expect(statSync(file).mode & 0o077).toBe(0);
    }
    expect(statSync(statePaths.privateStore()).mode & 0o077).toBe(0);
    const { traces } = searchFolder(
      statePaths.run('x', 1).replace(/runs.*$/, ''),
      [secret],
      [statePaths.privateStore()],
    );
    expect(traces).toEqual([]);
  });

  it('keeps class or code, and whether it is tried again', async () => {
    const made = await makeUpRun({ seeds: [1], epsilons: [8], sensitivity: 'private' });
    const of = async (thrown: unknown) => (await seenOf(made, thrown)).get('reserveBudget');
    const withheld = 'Its message stays in the local log: the step works on private data.';
    expect(await of(new TypeError(secret))).toMatchObject({
      ...{ type: 'TypeError', nonRetryable: false, message: `It failed with TypeError. ${withheld}` },
    });
    expect(await of(Object.assign(new Error(secret), { code: 'ENOSPC', path: secret }))).toMatchObject({
      ...{ type: 'DISK_FULL', nonRetryable: false, message: 'No space is left on the disk.' },
      details: [{ hint: expect.stringContaining('Free some space') as string }],
    });
    expect(await of(new EpsilonflowError('DATA_ENCODING', secret))).toMatchObject({
      ...{ type: 'DATA_ENCODING', nonRetryable: true, message: `It failed with DATA_ENCODING. ${withheld}` },
    });
    const refused = new EpsilonflowError('BUDGET_REFUSED', 'epsilon 9 is over 8', { hint: 'Lower it.' });
    expect(await of(refused)).toMatchObject({ message: 'epsilon 9 is over 8', details: [{ hint: 'Lower it.' }] });
  });

  it('tells nothing where the plan cannot be read, and all where no data are private', async () => {
    const made = await makeUpRun({ seeds: [1], epsilons: [8], sensitivity: 'benchmark' });
    for (const failure of (
      await seenOf({ ...made, plan: { ...made.plan, digest: '0'.repeat(64) } }, new Error(secret))
    ).values()) {
      expect(seen(failure)).not.toContain(secret);
    }
    for (const failure of (await seenOf(made, new Error(secret))).values()) {
      expect(failure).toMatchObject({ type: 'Error', message: secret, nonRetryable: false });
    }
  });
});
