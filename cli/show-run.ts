/** @file Starts a compiled plan, or takes its run up again, and shows it until its end: what `run`, `retry` and `rerun` share. */

import { compile, refuseIfOverdrawn, type Compiled } from '../compiler/index.ts';
import type { Plan } from '../schemas/plan.ts';
import { ensureServices } from '../stack/services.ts';
import { ensureWorker } from '../stack/worker-process.ts';
import { withCompileHost } from './compile-host.ts';
import { openStore } from '../store/index.ts';
import { shareExpectations, writeExpectations } from '../tracking/past-costs.ts';
import { estimatePlan, expectationsOf, startLine, type PlanEstimate } from './estimate.ts';
import { compareWithRecords } from './ledger-records.ts';
import { describeLink } from './live-block.ts';
import { createLiveView } from './live-view.ts';
import { findMisses, missLines } from './misses.ts';
import { errorRecords, exitCodeOf, exitCodes, printJson, styled, type Paint } from './output.ts';
import { registerPlan, type Registrations } from './registrations.ts';
import { liveLinks, outcomeOf, printOutcome } from './run-outcome.ts';
import { startRun, withPriority, type StartedRun } from './start-run.ts';
import { connectTemporal } from './temporal-client.ts';
import { watchRun } from './watch-run.ts';

export interface ShowOptions {
  detach?: boolean;
  json?: boolean;
  /** In place of the spec's. */
  priority?: number;
}

export interface CompiledRun {
  compiled: Compiled;
  registrations: Registrations;
}

export const compileRun = (file: string, profile: string | undefined, reruns?: Plan['reruns']): Promise<CompiledRun> =>
  withCompileHost(async (host) => ({
    compiled: await compile({ file, profile, reruns }, host),
    registrations: host.registrations,
  }));

/** How long a detached command may wait for answers, milliseconds. */
const leaveWithin = 1_000;

const paint: Paint = (style, text) => styled(style, text, process.stderr);

/** @returns the exit code; errors that end the run are printed under `json` and thrown otherwise */
export async function startAndShow({ compiled, registrations }: CompiledRun, options: ShowOptions): Promise<number> {
  const { plan } = compiled;
  const view = createLiveView(plan.nodes.length);
  const scheduling = withPriority(compiled.scheduling, options.priority);
  view.say(describePlan(plan));
  for (const line of missLines(plan, await findMisses(compiled))) view.say(line);
  const estimate = await estimatePlan(compiled);
  const expected = startLine(estimate);
  if (expected !== null) view.say(`  ${expected}`);
  const services = await ensureServices();
  for (const warning of services.warnings) view.say(`${paint('yellow', 'warning')}: ${warning}`);
  const { temporal } = services;
  const client = await connectTemporal(temporal);
  try {
    const started = await startRun(client, { ...compiled, scheduling }, async () => {
      await compareWithRecords(plan, services, (line) => view.say(line));
      refuseIfOverdrawn(compiled);
      return registerPlan(plan, registrations, (line) => view.say(line));
    });
    if (started.isNew) await keepExpectations(started, estimate);
    const interrupted = detachOnInterrupt();
    await ensureWorker(temporal);
    view.say(`${paint('bold', runName(started))} ${started.isNew ? 'started' : 'goes on'}`);
    const links = liveLinks(started, services);
    for (const link of links()) view.say(`  ${describeLink(link, paint)}`);
    if (options.detach) {
      if (options.json) printJson({ ...outcomeOf(started, plan, temporal), errors: [] });
      return exitCodes.fine;
    }
    let failure: Error | null = null;
    try {
      const ended = await watchRun({ client, temporal, folder: started, plan, view, links }, interrupted);
      if (ended === 'detached') {
        const shows = plan.reruns ? `status ${runName(started)}` : `run ${plan.spec.file}`;
        const again = `\`epsilonflow ${shows}\` shows it again, \`epsilonflow cancel ${runName(started)}\` ends it.`;
        view.say(`Detached: the run goes on. ${again}`);
        // What is still asked of other machines keeps nobody who wants to leave.
        setTimeout(() => process.exit(), leaveWithin).unref();
        return exitCodes.fine;
      }
      if (ended === 'waiting') {
        view.say(`It waits: \`epsilonflow approve ${runName(started)} --reason TEXT\` lets it go on.`);
        if (options.json) printJson({ ...outcomeOf(started, plan, temporal), errors: [] });
        return exitCodes.waiting;
      }
    } catch (error) {
      failure = error instanceof Error ? error : new Error(String(error));
    }
    if (options.json) {
      printJson({ ...outcomeOf(started, plan, temporal), errors: failure === null ? [] : errorRecords(failure) });
      return failure === null ? exitCodes.fine : exitCodeOf(failure);
    }
    await printOutcome(started, plan, temporal);
    if (failure !== null) throw failure;
    return exitCodes.fine;
  } finally {
    await client.connection.close();
  }
}

/** What later runs and other hosts learn from: no run fails for lack of it. */
async function keepExpectations(started: StartedRun, estimate: PlanEstimate): Promise<void> {
  writeExpectations(started.directory, expectationsOf(estimate));
  await shareExpectations(started, openStore()).catch(() => undefined);
}

const runName = ({ record }: StartedRun): string => `${record.name}/${record.number}`;

function describePlan({ name, nodes }: Plan): string {
  const cached = nodes.filter((node) => node.cached).length;
  const reuse = cached > 0 ? `, ${cached} of them reused from earlier runs` : '';
  return `${paint('bold', name)}: ${nodes.length} instances${reuse}`;
}

/** The first Ctrl-C or hang-up leaves the run; the second ends this program at once, which harms the run no more. */
function detachOnInterrupt(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => controller.abort());
  return controller.signal;
}
