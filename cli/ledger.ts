/** @file `epsilonflow ledger`: what each dataset has spent, its budget, and whether the books are in order. */

import { userInfo } from 'node:os';

import type { Command } from 'commander';

import { EpsilonflowError } from '../schemas/errors.ts';
import type { AccountSummary, ExperimentSpending, Ledger } from '../privacy/ledger/index.ts';
import { ledgerUrl } from '../stack/paths.ts';
import { action, formatTable, printJson, printLine, styled } from './output.ts';

interface Output {
  json?: boolean;
}

async function withLedger<T>(work: (ledger: Ledger) => Promise<T>): Promise<T> {
  const { openLedger } = await import('../privacy/ledger/index.ts');
  const ledger = await openLedger(ledgerUrl());
  try {
    return await work(ledger);
  } finally {
    await ledger.close();
  }
}

const figure = (epsilon: number | null): string => (epsilon === null ? 'unbounded' : epsilon.toFixed(3));

function printAccount(summary: AccountSummary): void {
  const { account, delta, budget, committed, reserved, total, remaining, unbounded } = summary;
  printLine(styled('bold', account) + styled('dim', `  epsilon at delta ${Number(delta.toPrecision(4))}`));
  printLine(
    `  budget ${budget === null ? 'none, recorded only' : budget}` +
      `   committed ${figure(committed)}   reserved ${figure(reserved)}   together ${figure(total)}` +
      (remaining === null ? '' : `   remaining ${remaining.toFixed(3)}`),
  );
  if (unbounded > 0) printLine(`  ${unbounded} entries of training without DP`);
  const states = ({ entries }: ExperimentSpending): string =>
    Object.entries(entries)
      .filter(([, count]) => count > 0)
      .map(([state, count]) => `${count} ${state}`)
      .join(', ');
  const rows = summary.experiments.map((line) => [`  ${line.workflowId}`, figure(line.epsilon), states(line)]);
  if (rows.length > 0) printLine(formatTable(['  experiment', 'epsilon', 'entries'], rows));
}

async function show(dataset: string | undefined, { json }: Output): Promise<void> {
  await withLedger(async (ledger) => {
    const known = await ledger.accounts();
    if (dataset !== undefined && !known.includes(dataset)) {
      throw new EpsilonflowError('ARGUMENT_INVALID', `The ledger has no account ${dataset}.`, {
        hint: known.length === 0 ? 'Nothing was spent yet.' : `It has ${known.join(', ')}.`,
      });
    }
    const names = dataset === undefined ? known : [dataset];
    const summaries = (await Promise.all(names.map((name) => ledger.accountSummary(name)))).filter(
      (summary) => summary !== null,
    );
    if (json) return printJson({ ledger: ledgerUrl(), head: await ledger.head(), accounts: summaries });
    if (summaries.length === 0) printLine('Nothing was spent yet.');
    summaries.forEach((summary, i) => {
      if (i > 0) printLine();
      printAccount(summary);
    });
  });
}

async function verify({ json }: Output): Promise<void> {
  const { rows } = await withLedger((ledger) => ledger.verify());
  if (json) printJson({ rows, intact: true });
  else printLine(`The chain of ${rows} rows is intact.`);
}

async function setBudget(
  dataset: string,
  text: string,
  { reason, author, json }: Output & { reason: string; author: string },
): Promise<void> {
  const epsilon = text === 'none' ? null : Number(text);
  await withLedger(async (ledger) => {
    await ledger.setBudget(dataset, epsilon, { author, reason });
    if (json) printJson(await ledger.accountSummary(dataset));
    else printLine(`The budget of ${dataset} is now ${epsilon ?? 'none'}.`);
  });
}

export function ledgerCommand(program: Command): void {
  const ledger = program.command('ledger').description('Show and check what was spent of each dataset.');
  ledger
    .command('show')
    .description('Budget, committed, reserved and remaining epsilon, by dataset and experiment.')
    .argument('[dataset]', 'one dataset only')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample: epsilonflow ledger show speeches')
    .action(action(show));
  ledger
    .command('set-budget')
    .description('Change the budget of a dataset; a row of its own in the ledger says who and why.')
    .argument('<dataset>', 'its account')
    .argument('<epsilon>', 'the budget, or none')
    .requiredOption('--reason <text>', 'why')
    .option('--author <name>', 'who decided', userInfo().username)
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample: epsilonflow ledger set-budget reviews 12 --reason "consent form of May"')
    .action(action(setBudget));
  ledger
    .command('verify')
    .description('Recompute the hash chain of the ledger.')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample: epsilonflow ledger verify')
    .action(action(verify));
}
