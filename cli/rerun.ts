/** @file `epsilonflow rerun`: makes results of a step, and of what depends on it, once more, although they are there. */

import { randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Plan } from '../schemas/plan.ts';
import { parsePriority, priorityHelp } from './priority.ts';
import { action } from './output.ts';
import type { ShowOptions } from './show-run.ts';

interface RerunOptions extends ShowOptions {
  from: string;
  spend?: boolean;
}

export function rerunCommand(program: Command): void {
  program
    .command('rerun')
    .description('Run a step of an ended run and what depends on it again, as a new run, although results are there.')
    .argument('<run>', 'NAME/NUMBER, NAME or latest')
    .requiredOption('--from <step>', 'name of the step to begin with')
    .option('--spend', 'agree to what private instances are charged anew')
    .option('--priority <1-5>', priorityHelp, parsePriority)
    .option('--detach', 'start it and return')
    .option('--json', 'print the outcome as JSON')
    .addHelpText('after', '\nExample:\n  epsilonflow rerun quickstart/3 --from synthetic')
    .action(action(rerun));
}

async function rerun(reference: string, options: RerunOptions): Promise<number> {
  const { resolveRun } = await import('../tracking/runs.ts');
  const { openStore } = await import('../store/index.ts');
  const { refuseIfOverdrawn } = await import('../compiler/index.ts');
  const { compileAgain, refuseIfUnderWay } = await import('./compile-again.ts');
  const { confirmSpending } = await import('./confirm-spending.ts');
  const { compileRun, startAndShow } = await import('./show-run.ts');
  const { record } = resolveRun(reference);
  const run = `${record.name}/${record.number}`;
  const plan = await openStore().loadPlan(record.planDigest);
  requireStep(plan, options.from);
  await refuseIfUnderWay(run, record.workflowId);
  await compileAgain(run, record, plan);
  const added = { step: options.from, nonce: randomBytes(8).toString('hex') };
  const { file, profile } = plan.spec;
  const again = await compileRun(file, profile ?? undefined, [...(plan.reruns ?? []), added]);
  refuseIfOverdrawn(again.compiled);
  await confirmSpending(again.compiled.plan, options.spend === true);
  return startAndShow(again, options);
}

function requireStep({ nodes, name }: Plan, step: string): void {
  const steps = [...new Set(nodes.map((node) => node.step))];
  if (steps.includes(step)) return;
  throw new EpsilonflowError('ARGUMENT_INVALID', `${name} has no step "${step}".`, {
    hint: `Its steps are: ${steps.join(', ')}.`,
  });
}
