import { ApplicationFailure } from '@temporalio/common';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { faultOf, stepError, toApplicationFailure } from '../../activities/errors.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { doorOf } from '../../tracking/door.ts';
import { makeUpRun, ownState } from '../tracking/made-up-run.ts';

let removeState: () => void;
beforeEach(() => {
  removeState = ownState();
});
afterEach(() => removeState());

const secret = 'what the record says';

async function told(sensitivity: 'private' | 'benchmark', thrown: unknown): Promise<string> {
  const { plan } = await makeUpRun({ seeds: [1], epsilons: [8], sensitivity });
  const failure = toApplicationFailure(stepError(faultOf(thrown), doorOf(plan, plan.nodes[0]!), 'step.log'));
  expect(failure).toBeInstanceOf(ApplicationFailure);
  return JSON.stringify({ ...failure, message: failure.message, cause: failure.cause ?? null });
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

describe('an error of the worker itself', () => {
  it('quotes no file that it could not read', () => {
    let thrown: unknown;
    try {
      JSON.parse(`{"text": ${secret}`);
    } catch (error) {
      thrown = error;
    }
    expect(String(thrown)).toContain('what');
    expect(toApplicationFailure(thrown).message).toBe('A file of the store or of a run holds no valid JSON.');
  });
});
