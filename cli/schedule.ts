/** @file `epsilonflow schedule`: runs a spec again and again, through schedules of Temporal. */

import type { Command } from 'commander';
import { parsePriority, priorityHelp } from './priority.ts';
import type { ScheduleStatus } from './schedules.ts';
import { action, printJson, printLine, shortPath, styled } from './output.ts';

interface Output {
  json?: boolean;
}

interface CreateOptions extends Output {
  cron: string;
  name?: string;
  profile?: string;
  priority?: number;
  spend?: boolean;
}

export function scheduleCommand(program: Command): void {
  const schedule = program
    .command('schedule')
    .description('Run a spec again and again: each firing compiles it anew and asks the budget.')
    .addHelpText('after', '\nExample:\n  epsilonflow schedule list');
  schedule
    .command('create')
    .description('Run a spec at the times of a cron expression. A firing is left out while the one before still runs.')
    .argument('<spec>', 'YAML file of the experiment')
    .requiredOption('--cron <expression>', 'minute, hour, day, month, weekday in UTC; or CRON_TZ=ZONE before them')
    .option('--name <name>', 'name of the schedule in place of that of the spec')
    .option('--profile <name>', 'apply the overrides of a profile of the spec')
    .option('--priority <1-5>', priorityHelp, parsePriority)
    .option('--spend', 'agree to what each firing may charge')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  epsilonflow schedule create experiments/quickstart.yaml --cron "0 3 * * MON"')
    .action(action(create));
  schedule
    .command('list')
    .description('List schedules, with their last firings and how they ended.')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  epsilonflow schedule list')
    .action(action(list));
  schedule
    .command('delete')
    .description('Delete a schedule. A run that it started goes on.')
    .argument('<name>', 'name of the schedule')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  epsilonflow schedule delete quickstart')
    .action(action(remove));
}

async function create(spec: string, options: CreateOptions): Promise<void> {
  const { refuseIfOverdrawn } = await import('../compiler/index.ts');
  const { statePaths } = await import('../stack/paths.ts');
  const { ensureTemporal } = await import('../stack/services.ts');
  const { ensureWorker } = await import('../stack/worker-process.ts');
  const { hostName } = await import('../store/host-name.ts');
  const { agreeToFirings } = await import('./schedule-agreement.ts');
  const { compileRun } = await import('./show-run.ts');
  const { createSchedule, requireScheduleName, withSchedules } = await import('./schedules.ts');
  if (options.name !== undefined) requireScheduleName(options.name);
  const { compiled } = await compileRun(spec, options.profile);
  const { plan } = compiled;
  refuseIfOverdrawn(compiled);
  const agreed = await agreeToFirings(compiled, options.spend === true);
  const { file: specFile, profile } = plan.spec;
  const { cron, priority, name = plan.name } = options;
  const folder = hostName(statePaths.owner());
  const scheduled = { schedule: name, specFile, profile, agreed, cron, folder, ...(priority && { priority }) };
  const next = await withSchedules((client) => createSchedule(client, scheduled));
  await ensureWorker(await ensureTemporal());
  if (options.json) return printJson({ schedule: name, spec: specFile, cron, agreed, next });
  printLine(`${styled('bold', name)} runs ${shortPath(specFile)}, next at ${next}.`);
  printLine('It fires while server and worker run. `epsilonflow schedule list` tells how firings ended.');
}

async function list({ json }: Output): Promise<void> {
  const { listSchedules, withSchedules } = await import('./schedules.ts');
  const schedules = await withSchedules(listSchedules);
  if (json) return printJson({ schedules });
  if (schedules.length === 0) return printLine('There is no schedule yet. Make one: epsilonflow schedule create SPEC');
  schedules.forEach(printSchedule);
}

function printSchedule({
  schedule,
  spec,
  profile,
  cron,
  next,
  paused,
  skipped,
  missed,
  firings,
}: ScheduleStatus): void {
  const when = paused ? 'paused in Temporal' : `next ${next ?? 'never'}`;
  const of = profile === null ? '' : ` (profile ${profile})`;
  printLine(`${styled('bold', schedule)}  ${shortPath(spec)}${of}  ${cron}  ${when}`);
  if (skipped > 0) printLine(`  ${skipped} left out, since the firing before still ran`);
  if (missed > 0) printLine(`  ${missed} missed, since the server was down`);
  for (const { time, status, run, errors } of firings) {
    printLine(`  ${time}  ${status}${run === null ? '' : `  ${run}`}`);
    for (const { code, message } of errors) printLine(`    ${styled('red', code)}: ${message}`);
  }
}

async function remove(name: string, { json }: Output): Promise<void> {
  const { deleteSchedule, withSchedules } = await import('./schedules.ts');
  await withSchedules((client) => deleteSchedule(client, name));
  if (json) return printJson({ schedule: name, deleted: true });
  printLine(`${name} fires no more. A run that it started goes on.`);
}
