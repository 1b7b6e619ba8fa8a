/** @file `epsilonflow plan`: what a spec would run, and what it would cost in privacy. */

import type { Command } from 'commander';

import type { Compiled } from '../compiler/index.ts';
import { accountOf, chargesOf, splitOfAccount, waivedAccountsOf } from '../schemas/charges.ts';
import type { PlanEstimate } from './estimate.ts';
import type { NodeCharge, Plan, PlanAccount, PlanNode } from '../schemas/plan.ts';
import {
  action,
  errorRecords,
  exitCodes,
  formatPosition,
  formatTable,
  printError,
  printJson,
  printLine,
  styled,
} from './output.ts';
import { showEpsilon } from '../tracking/wording.ts';

interface PlanOptions {
  profile?: string;
  offline?: boolean;
  json?: boolean;
}

/** Rows that a terminal is shown; `--json` lists all. */
const shownNodes = 200;
const shownMechanisms = 20;

export function planCommand(program: Command): void {
  program
    .command('plan')
    .description(
      'Show what a spec would run, what is there already, and what it takes: time, disk, privacy. Runs nothing.',
    )
    .argument('<spec>', 'YAML file of the experiment')
    .option('--profile <name>', 'apply the overrides of a profile of the spec')
    .option('--offline', 'ask neither store nor ledger: "cached", "before", "after" and "estimate" stay null')
    .option('--json', 'print the whole plan')
    .addHelpText('after', '\nExample:\n  epsilonflow plan experiments/quickstart.yaml --profile small')
    .action(
      action(async (spec: string, options: PlanOptions) => {
        const compiled = await compileForPlan(spec, options);
        const { findMisses, missText } = await import('./misses.ts');
        const misses = await findMisses(compiled);
        const { estimateJson, estimatePlan } = await import('./estimate.ts');
        const estimate = options.offline ? null : await estimatePlan(compiled);
        if (options.json) {
          const { plan, overdrafts, refusals } = compiled;
          const errors = refusals.flatMap(errorRecords);
          const told = { misses: Object.fromEntries(misses), estimate: estimate && estimateJson(estimate) };
          printJson({ ...plan, ...told, refusals: overdrafts, errors });
        } else {
          const why = (node: PlanNode): string => (misses.has(node.id) ? missText(misses.get(node.id)!) : '');
          await printPlan(compiled.plan, why, estimate);
          for (const refusal of compiled.refusals) printError(refusal);
        }
        return compiled.refusals.length > 0 ? exitCodes.budget : exitCodes.fine;
      }),
    );
}

async function compileForPlan(file: string, { profile, offline }: PlanOptions): Promise<Compiled> {
  const { compile } = await import('../compiler/index.ts');
  const { offlineHost, withCompileHost } = await import('./compile-host.ts');
  const request = { file, profile };
  return offline === true ? compile(request, offlineHost()) : withCompileHost((host) => compile(request, host));
}

/** @param why a node has no result to use again. @param estimate null: not asked for. */
async function printPlan(plan: Plan, why: (node: PlanNode) => string, estimate: PlanEstimate | null): Promise<void> {
  const { estimateCells, estimateLines } = await import('./estimate.ts');
  const profile = plan.spec.profile === null ? '' : `, profile ${plan.spec.profile}`;
  const cached = plan.nodes.filter((node) => node.cached === true).length;
  const there = plan.nodes.every((node) => node.cached === null) ? '' : `, ${cached} there already`;
  printLine(
    `${styled('bold', plan.name)}: ${plan.nodes.length} ${plan.nodes.length === 1 ? 'instance' : 'instances'}${there}${profile}`,
  );
  printLine();
  const rows = plan.nodes
    .slice(0, shownNodes)
    .map((node) => [
      node.id,
      node.kind,
      shownLabel(node),
      node.cached === null ? '?' : node.cached ? 'there' : 'to run',
      ...(estimate === null ? [] : estimateCells(estimate, node.id)),
      styled('dim', formatPosition(node.position)),
      why(node),
    ]);
  const columns = ['instance', 'kind', 'label', 'state', ...(estimate === null ? [] : ['time', 'disk']), 'at', 'why'];
  printLine(formatTable(columns, rows));
  if (plan.nodes.length > shownNodes) printLine(`... and ${plan.nodes.length - shownNodes} more; --json lists all`);
  for (const { name, reason } of plan.waivers) printLine(`\n${styled('yellow', `waived: ${name}`)} (${reason})`);
  if (estimate !== null && estimate.instances.size > 0) {
    printLine(`\n${styled('bold', 'estimate')}`);
    for (const line of estimateLines(estimate)) printLine(line);
  }
  const accounts = Object.entries(plan.privacy);
  if (accounts.length > 0) printLine(`\n${styled('bold', 'privacy')}`);
  for (const [name, account] of accounts) printAccount(plan, name, account);
  printLine(`\n${styled('dim', `plan ${plan.digest}`)}`);
}

function shownLabel({ label, sensitivity }: PlanNode): string {
  const colour = { public: 'green', dp: 'cyan', 'non-private': 'yellow' } as const;
  return styled(colour[label], label) + (sensitivity === 'public' ? '' : ` (${sensitivity})`);
}

function printAccount(plan: Plan, name: string, account: PlanAccount): void {
  const { dataset, split } = splitOfAccount(name);
  const { sensitivity, privacy } = plan.datasets[dataset]!;
  const { size, counted, delta } = privacy!;
  // How many test records there are is declared nowhere, and not told.
  const size_ = split === 'test' ? 'test records' : `${size} records${counted ? ' (counted, treated as public)' : ''}`;
  printLine(`${styled('bold', name)}: ${sensitivity}, ${size_}, delta ${delta.toExponential(2)}, unit one record`);
  const charged = plan.nodes.flatMap((node) =>
    chargesOf(node).flatMap((charge) => (accountOf(charge) === name ? [{ node, charge }] : [])),
  );
  printLine(`├─ before      ${spent(account.before, account.unboundedBefore)}`);
  printLine(
    `├─ this plan   ${spent(account.experiment, account.unbounded)}${charged.length > 1 ? ', composed of' : ''}`,
  );
  const waived = plan.nodes.flatMap((node) => waivedAccountsOf(node, plan).filter(({ account: of }) => of === name));
  for (const waiver of new Set(waived.map((each) => each.waiver))) {
    printLine(`│  ${styled('yellow', `exact figures of its records leave besides, under the waiver ${waiver}`)}`);
  }
  const lines = charged
    .slice(0, shownMechanisms)
    .map(({ node, charge }) => `${node.id}  ${mechanismText(charge, node.cached)}`);
  if (charged.length > shownMechanisms) lines.push(`... and ${charged.length - shownMechanisms} more`);
  lines.forEach((line, i) => printLine(`│  ${i === lines.length - 1 ? '└' : '├'}─ ${line}`));
  const pending = unboundedPending(plan, name);
  const after = account.unboundedBefore === null ? null : account.unboundedBefore + pending;
  printLine(`├─ after       ${spent(account.after, after)}`);
  const rule = account.rule === null || account.rule === 'recorded' ? '' : ` (decided by: ${account.rule})`;
  const budget = account.budget === null ? 'none stated: spending is recorded' : `epsilon ${account.budget}${rule}`;
  printLine(`└─ budget      ${budget}`);
}

/** Trainings without DP that an account is still to be charged for: those that have no result, equal ones once. */
export function unboundedPending({ nodes }: Pick<Plan, 'nodes'>, account: string): number {
  const pending = nodes.filter(
    (node) =>
      node.cached !== true &&
      chargesOf(node).some((charge) => accountOf(charge) === account && charge.mechanism.kind === 'unbounded'),
  );
  return new Set(pending.map(({ key }) => key)).size;
}

function mechanismText({ epsilon, mechanism }: NodeCharge, cached: boolean | null): string {
  const reused = cached === true ? styled('green', '  paid already') : '';
  if (mechanism.kind === 'unbounded') return `${styled('yellow', 'unbounded')} (no DP)${reused}`;
  if (mechanism.kind === 'discrete-laplace') {
    return `epsilon ${showEpsilon(epsilon!)}  noisy test counts, scale ${mechanism.scale.toPrecision(3)}${reused}`;
  }
  const { samplingProbability, noiseMultiplier, steps } = mechanism;
  const q = samplingProbability.toPrecision(3);
  return `epsilon ${showEpsilon(epsilon!)}  q ${q}, sigma ${noiseMultiplier.toPrecision(3)}, ${steps} steps${reused}`;
}

/** Spending in words: a finite figure is never shown as the whole where something unbounded stands beside it. */
function spent(epsilon: number | null, unbounded: number | null): string {
  if (unbounded === null) return 'not asked (offline)';
  const nodes = `${unbounded} ${unbounded === 1 ? 'training' : 'trainings'} without DP`;
  if (unbounded === 0) return epsilon === null ? 'unbounded' : `epsilon ${showEpsilon(epsilon)}`;
  const part = epsilon === null ? '' : `; its DP part alone: epsilon ${showEpsilon(epsilon)}`;
  return `${styled('yellow', 'unbounded')}: ${nodes}${part}`;
}
