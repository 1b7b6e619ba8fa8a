/** @file What a firing of a schedule does before its run: compiles, asks the budget, and writes one run down. */

import { existsSync, readFileSync } from 'node:fs';
import type { Client } from '@temporalio/client';
import type { PreparedFiring, ScheduledSpec } from '../activities/contract.ts';
import { faultOf } from '../activities/errors.ts';
import type { JobFault } from '../activities/job-messages.ts';
import { refuseIfOverdrawn } from '../compiler/index.ts';
import type { KnownHead } from '../privacy/ledger/index.ts';
import { errorCodes } from '../schemas/error-codes.ts';
import { EpsilonflowError, SpecFaults } from '../schemas/errors.ts';
import { failpoint } from '../schemas/failpoints.ts';
import { systemError } from '../schemas/system-errors.ts';
import { statePaths } from '../stack/paths.ts';
import { ensureServices, type Services } from '../stack/services.ts';
import { writeDurably } from '../store/disk.ts';
import { openStore } from '../store/index.ts';
import { recordFiring } from '../tracking/firings.ts';
import { shareExpectations, writeExpectations } from '../tracking/past-costs.ts';
import { ledgerHeadFile, listRuns, writeRun, type RunFolder } from '../tracking/runs.ts';
import { estimatePlan, expectationsOf } from './estimate.ts';
import { compareWithRecords } from './ledger-records.ts';
import { errorRecords, formatPosition } from './output.ts';
import { registerPlan } from './registrations.ts';
import { attributesOfRun } from './search-attributes.ts';
import { requireAgreed } from './schedule-agreement.ts';
import { compileRun } from './show-run.ts';
import {
  findUnended,
  identityOf,
  limitsOf,
  newRecord,
  whileStarting,
  withPriority,
  workflowOptions,
} from './start-run.ts';
import { connectTemporal } from './temporal-client.ts';

/**
 * Killed at any point and called again for the same firing, it writes one run down.
 *
 * @throws SpecFaults, EpsilonflowError: also noted for `schedule list`, unless another try may do better
 */
export async function prepareFiring(spec: ScheduledSpec, firing: string): Promise<PreparedFiring> {
  const services = await ensureServices();
  const client = await connectTemporal(services.temporal);
  try {
    const before = listRuns().find(({ record }) => record.firing === firing);
    return before ? await firingOf(client, before) : await prepare(client, services, spec, firing);
  } catch (error) {
    const { code } = faultOfFiring(error);
    const isFinal = code !== null && !errorCodes[code].retryable;
    if (isFinal) recordFiring(spec.schedule, firing, { end: 'refused', errors: errorRecords(error) });
    throw error;
  } finally {
    await client.connection.close();
  }
}

async function prepare(
  client: Client,
  services: Services,
  spec: ScheduledSpec,
  firing: string,
): Promise<PreparedFiring> {
  const { schedule, specFile, profile, agreed, priority } = spec;
  const { compiled, registrations } = await compileRun(specFile, profile ?? undefined);
  const { plan, specText } = compiled;
  return whileStarting(plan, async (runs) => {
    const other = await findUnended(client, plan);
    if (other?.isUnderWay) {
      const underWay = nameOf(other.folder);
      recordFiring(schedule, firing, { end: 'under-way', run: underWay });
      return { underWay };
    }
    await compareWithRecords(plan, services, say);
    refuseIfOverdrawn(compiled);
    requireAgreed(compiled, agreed);
    const ledgerHead = await registerPlan(plan, registrations, say);
    const record = { ...(await newRecord(runs, compiled, withPriority(compiled.scheduling, priority))), firing };
    const directory = statePaths.run(record.name, record.number);
    if (ledgerHead) await writeDurably(ledgerHeadFile(directory), JSON.stringify(ledgerHead) + '\n');
    // What `plan` compares later estimates with: no run fails for lack of it.
    const expected = await estimatePlan(compiled).catch(() => null);
    if (expected) writeExpectations(directory, expectationsOf(expected));
    writeRun(record, specText);
    await shareExpectations({ directory, record }, openStore()).catch(() => undefined);
    failpoint('firing: written');
    recordFiring(schedule, firing, { end: 'run', run: nameOf({ directory, record }) });
    return firingOf(client, { directory, record });
  });
}

const say = (line: string): void => console.error(line);

/** Of a run that is written down. */
async function firingOf(client: Client, { directory, record }: RunFolder): Promise<PreparedFiring> {
  const plan = await openStore().loadPlan(record.planDigest);
  const headFile = ledgerHeadFile(directory);
  return {
    run: identityOf(record),
    ledgerHead: existsSync(headFile) ? (JSON.parse(readFileSync(headFile, 'utf8')) as KnownHead) : null,
    limits: limitsOf(record),
    options: workflowOptions(record, plan, await attributesOfRun(client, plan)),
  };
}

const nameOf = ({ record }: RunFolder): string => `${record.name}/${record.number}`;

/** What is told to Temporal; of several faults the first. */
export function faultOfFiring(thrown: unknown): JobFault {
  const error = systemError(thrown);
  if (!(error instanceof SpecFaults) || !error.faults[0]) return faultOf(error);
  const [first, ...others] = error.faults;
  const { code, message, hint, position } = first;
  const place = position ? `${formatPosition(position)}: ` : '';
  const more = others.length > 0 ? ` (and ${others.length} more faults)` : '';
  return faultOf(new EpsilonflowError(code, `${place}${message}${more}`, hint === undefined ? {} : { hint }));
}
