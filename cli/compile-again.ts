/** @file Compiles the spec of an ended run once more, for commands that run a part of it again. */

import { resolve } from 'node:path';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Plan } from '../schemas/plan.ts';
import { ensureTemporal } from '../stack/services.ts';
import type { RunRecord } from '../tracking/runs.ts';
import { compileRun, type CompiledRun } from './show-run.ts';
import { connectTemporal, workflowState } from './temporal-client.ts';

/** Asks Temporal, since the log of a run that was terminated tells no end. */
export async function refuseIfUnderWay(run: string, workflowId: string): Promise<void> {
  const client = await connectTemporal(await ensureTemporal());
  try {
    if ((await workflowState(client, workflowId)) !== 'running') return;
  } finally {
    await client.connection.close();
  }
  throw new EpsilonflowError('ARGUMENT_INVALID', `${run} has not ended.`, {
    hint: `End it first with \`epsilonflow cancel ${run}\`, or wait.`,
  });
}

/** A plan names its spec, and every place in it, as the command that started it did. */
export async function compileAgain(run: string, record: RunRecord, { spec, reruns }: Plan): Promise<CompiledRun> {
  const { file, profile } = spec;
  if (resolve(file) !== record.specFile) {
    throw new EpsilonflowError('ARGUMENT_INVALID', `${run} was started from another folder.`, {
      hint: `Go where ${file} is ${record.specFile}.`,
    });
  }
  const again = await compileRun(file, profile ?? undefined, reruns);
  if (again.compiled.plan.digest === record.planDigest) return again;
  throw new EpsilonflowError(
    'ARGUMENT_INVALID',
    `The spec or its data, or this program, changed after ${run} started.`,
    {
      hint: `Run it as it is now: \`epsilonflow run ${file}\` reuses every result that the change doesn't touch.`,
    },
  );
}
