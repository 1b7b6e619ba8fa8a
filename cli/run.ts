/** @file `epsilonflow run`: compiles a spec, starts its run or takes it up again, and shows it until its end. */

import type { Command } from 'commander';
import type { Plan } from '../schemas/plan.ts';
import type { StartedRun } from './start-run.ts';
import { action, errorRecords, exitCodeOf, exitCodes, printJson, styled } from './output.ts';

interface RunOptions {
  profile?: string;
  detach?: boolean;
  json?: boolean;
}

export function runCommand(program: Command): void {
  program
    .command('run')
    .description('Run a spec. Ctrl-C leaves the run going; the same command shows it again.')
    .argument('<spec>', 'YAML file of the experiment')
    .option('--profile <name>', 'apply the overrides of a profile of the spec')
    .option('--detach', 'start it and return')
    .option('--json', 'print the outcome as JSON')
    .addHelpText('after', '\nExample:\n  epsilonflow run experiments/quickstart.yaml')
    .action(action(run));
}

async function run(spec: string, options: RunOptions): Promise<number> {
  const { compile, refuseIfOverdrawn } = await import('../compiler/index.ts');
  const { withCompileHost } = await import('./compile-host.ts');
  const { ensureServices } = await import('../stack/services.ts');
  const { ensureWorker } = await import('../stack/worker-process.ts');
  const { createLiveView } = await import('./live-view.ts');
  const { compareWithRecords } = await import('./ledger-records.ts');
  const { registerPlan } = await import('./registrations.ts');
  const { findMisses, missLines } = await import('./misses.ts');
  const { startRun } = await import('./start-run.ts');
  const { connectTemporal } = await import('./temporal-client.ts');
  const { outcomeOf, printOutcome, workflowUrl } = await import('./run-outcome.ts');
  const view = createLiveView();

  const { compiled, registrations } = await withCompileHost(async (host) => ({
    compiled: await compile({ file: spec, profile: options.profile }, host),
    registrations: host.registrations,
  }));
  const { plan } = compiled;
  view.say(describePlan(plan));
  for (const line of missLines(plan, await findMisses(compiled))) view.say(line);
  const services = await ensureServices();
  for (const warning of services.warnings) view.say(`${styled('yellow', 'warning', process.stderr)}: ${warning}`);
  const { temporal } = services;
  const client = await connectTemporal(temporal);
  try {
    const started = await startRun(client, compiled, async () => {
      await compareWithRecords(plan, services, (line) => view.say(line));
      refuseIfOverdrawn(compiled);
      return registerPlan(plan, registrations, (line) => view.say(line));
    });
    const interrupted = detachOnInterrupt();
    await ensureWorker(temporal);
    const url = workflowUrl(temporal, started.record.workflowId);
    view.say(
      `${styled('bold', runName(started), process.stderr)} ${started.isNew ? 'started' : 'goes on'}${url ? `: ${url}` : ''}`,
    );
    if (options.detach) {
      if (options.json) printJson({ ...outcomeOf(started, plan, temporal), errors: [] });
      return exitCodes.fine;
    }
    const { watchRun } = await import('./watch-run.ts');
    let failure: Error | null = null;
    try {
      const ended = await watchRun(client, temporal, started, plan.nodes.length, view, interrupted);
      if (ended === 'detached') {
        const again = `\`epsilonflow run ${spec}\` shows it again, \`epsilonflow cancel ${runName(started)}\` ends it.`;
        view.say(`Detached: the run goes on. ${again}`);
        return exitCodes.fine;
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

const runName = ({ record }: StartedRun): string => `${record.name}/${record.number}`;

function describePlan({ name, nodes }: Plan): string {
  const cached = nodes.filter((node) => node.cached).length;
  const reuse = cached > 0 ? `, ${cached} of them reused from earlier runs` : '';
  return `${styled('bold', name, process.stderr)}: ${nodes.length} instances${reuse}`;
}

/** The first Ctrl-C or hang-up leaves the run; the second ends this program at once, which harms the run no more. */
function detachOnInterrupt(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => controller.abort());
  return controller.signal;
}
