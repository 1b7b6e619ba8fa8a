/** @file `epsilonflow ledger`: what each dataset has spent, its budget, which records it holds, and whether all is there. */

import { userInfo } from 'node:os';
import { join, resolve } from 'node:path';

import type { Command } from 'commander';

import { EpsilonflowError } from '../schemas/errors.ts';
import type {
  AccountSummary,
  DatasetRegistration,
  Discontinuity,
  Ledger,
  PublicData,
} from '../privacy/ledger/index.ts';
import { ledgerUrl } from '../stack/paths.ts';
import { describeLoss, describeWaiver, showEpsilon, showRemaining } from '../tracking/wording.ts';
import { action, formatTable, printJson, printLine, shortPath, styled } from './output.ts';

interface Output {
  json?: boolean;
}

interface Why {
  reason: string;
  author: string;
}

/** The marker that a command in this folder is held against, unless it names another. */
async function markerHere(named?: string): Promise<string> {
  const { markerFile } = await import('../privacy/ledger/index.ts');
  return named === undefined ? markerFile(join(process.cwd(), 'spec')) : resolve(named);
}

/** `unchecked`: also when the ledger is not what is remembered of it, as long as there is one. */
async function withLedger<T>(
  { marker, unchecked }: { marker: string; unchecked?: boolean },
  work: (ledger: Ledger) => Promise<T>,
): Promise<T> {
  const { openProjectLedger, openUnchecked, requireLedger } = await import('../stack/project-ledger.ts');
  requireLedger(marker);
  const ledger = await (unchecked === true ? openUnchecked() : openProjectLedger(marker));
  try {
    return await work(ledger);
  } finally {
    await ledger.close();
  }
}

const printUnasked = (unasked: readonly string[]): void => unasked.forEach((line) => printLine(styled('dim', line)));

const figure = (epsilon: number | null): string => (epsilon === null ? 'unbounded' : showEpsilon(epsilon));

function printAccount(summary: AccountSummary): void {
  const { account, delta, budget, committed, reserved, total, accountant, remaining, unbounded, experiments } = summary;
  printLine(styled('bold', account) + styled('dim', `  epsilon at delta ${Number(delta.toPrecision(4))}`));
  printLine(
    `  budget ${budget === null ? 'none, recorded only' : budget}` +
      `   committed ${figure(committed)}   reserved ${figure(reserved)}   together ${figure(total)}` +
      (accountant === null ? '' : ` (${accountant})`) +
      (remaining === null ? '' : `   remaining ${showRemaining(remaining)}`),
  );
  if (unbounded > 0) printLine(`  ${unbounded} entries of training without DP`);
  for (const waiver of summary.waivers) {
    printLine(
      `  ${styled('yellow', describeWaiver(waiver))} It was ${waiver.experiment}, plan ${waiver.planDigest.slice(0, 12)}.`,
    );
  }
  const rows = experiments.map(({ workflowId, committed: done, reserved: open, plan, entries }) => [
    `  ${workflowId}`,
    figure(done),
    figure(open),
    plan === null ? 'unbounded' : `${figure(plan.epsilon)} (${plan.accountant})`,
    Object.entries(entries)
      .filter(([, count]) => count > 0)
      .map(([state, count]) => `${count} ${state}`)
      .join(', '),
  ]);
  if (rows.length > 0) printLine(formatTable(['  experiment', 'committed', 'reserved', 'plan', 'entries'], rows));
}

async function show(dataset: string | undefined, { json }: Output): Promise<void> {
  const marker = await markerHere();
  const { ledgerName } = await import('../privacy/ledger/index.ts');
  const { discontinuitiesOf } = await import('../stack/project-ledger.ts');
  const { recordsOf } = await import('./ledger-records.ts');
  await withLedger({ marker, unchecked: true }, async (ledger) => {
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
    const { heads, unasked } = await recordsOf(ledger);
    const problems = await discontinuitiesOf(ledger, marker, heads);
    if (json) {
      const [identity, head] = [await ledger.identity(), await ledger.head()];
      return printJson({ ledger: ledgerName(ledgerUrl()), identity, head, problems, unasked, accounts: summaries });
    }
    for (const loss of summaries[0]?.losses ?? []) printLine(styled('yellow', describeLoss(loss)));
    for (const text of describe(problems)) printLine(styled('red', `Not the whole truth: ${text}.`));
    if (summaries.length === 0) printLine('Nothing was spent yet.');
    summaries.forEach((summary, i) => {
      if (i > 0) printLine();
      printAccount(summary);
    });
    printUnasked(unasked);
  });
}

/** One line for all rows that are lost together, the newest of which comes first. */
function describe(found: readonly Discontinuity[]): string[] {
  const lost = found.filter(({ problem }) => problem === 'rolled-back');
  return found.flatMap((one) => {
    switch (one.problem) {
      case 'exchanged':
        return `ledger ${one.expected.ledger}, with ${one.expected.sequence} rows or more, is not this one`;
      case 'rolled-back': {
        if (one !== lost[0]) return [];
        const more = lost.length > 1 ? `, nor are ${lost.length - 1} other rows that are remembered` : '';
        return `row ${one.expected.sequence}, which ${one.expected.source} names, is not in this ledger${more}`;
      }
      case 'secret-lost':
        return 'the dataset secret is another one, so that records of old and new data can not be compared';
    }
  });
}

async function verify({ json }: Output): Promise<void> {
  const marker = await markerHere();
  const { requireContinuity } = await import('../stack/project-ledger.ts');
  const { recordsOf } = await import('./ledger-records.ts');
  const { rows, unsealed, unasked } = await withLedger({ marker, unchecked: true }, async (ledger) => {
    const checked = await ledger.verify();
    const records = await recordsOf(ledger);
    await requireContinuity(ledger, marker, records.heads);
    return { ...checked, unasked: records.unasked };
  });
  if (json) return printJson({ rows, unsealed, intact: true, unasked });
  printLine(`The chain of ${rows} rows is intact, and every mechanism digest, sum and record is what its rows say.`);
  if (unsealed > 0) {
    printLine(
      `${unsealed} reservations were written by an earlier version, which did not name their data: their mechanism ` +
        'digests were compared with each other, not recomputed.',
    );
  }
  printUnasked(unasked);
}

interface RegisterOptions extends Output, Why {
  joins?: string;
  apartFrom: string[];
  profile?: string;
}

async function register(spec: string, dataset: string, options: RegisterOptions): Promise<void> {
  const { joins = null, apartFrom, author, reason, profile, json } = options;
  if (joins === null && apartFrom.length === 0) {
    throw new EpsilonflowError('ARGUMENT_INVALID', 'Say what was decided: --joins or --apart-from.');
  }
  const { compileSpec } = await import('../compiler/index.ts');
  const { offlineHost } = await import('./compile-host.ts');
  const { accountsAsked, publicDataOf, registrationOf } = await import('./registrations.ts');
  const { markerFile } = await import('../privacy/ledger/index.ts');
  const { ensureMarker } = await import('../stack/project-ledger.ts');
  const marker = markerFile(resolve(spec));
  await withLedger({ marker }, async (ledger) => {
    const asked: string[] = [];
    const found: DatasetRegistration[] = [];
    const open: PublicData[] = [];
    const host = offlineHost({
      onRecords: async (source, digest, records) => {
        if (source.sensitivity === 'public') {
          if (source.name === dataset) open.push(await publicDataOf(source, digest, records));
          return;
        }
        for (const account of accountsAsked(source)) {
          asked.push(account);
          if (account === dataset) found.push(await registrationOf(source, account, digest, records));
        }
      },
    });
    await compileSpec({ file: spec, profile }, host);
    const [data] = open;
    if (data !== undefined) {
      if (joins !== null) {
        throw new EpsilonflowError('ARGUMENT_INVALID', `${dataset} is called public: it joins no account.`, {
          hint: 'Give it `sensitivity: private` where its records are those of an account.',
        });
      }
      await ledger.acknowledgePublic(data, { apartFrom, author, reason });
      if (json) return printJson({ dataset, apartFrom });
      return printLine(`${dataset} is public, whatever it shares with ${apartFrom.join(', ')}.`);
    }
    const [registration] = found;
    if (registration === undefined) {
      throw new EpsilonflowError('ARGUMENT_INVALID', `${shortPath(resolve(spec))} spends on no dataset ${dataset}.`, {
        hint: asked.length === 0 ? 'It has none that is charged.' : `It has ${asked.join(', ')}.`,
      });
    }
    const [registered] = await ledger.register([{ ...registration, decision: { joins, apartFrom, author, reason } }]);
    const { account } = registered!;
    const made = !registration.benchmark && (await ensureMarker(ledger, marker));
    if (json) return printJson({ dataset, account });
    printLine(`The records of ${dataset} are spent on in account ${account}.`);
    if (made) printLine(`${shortPath(marker)} names the privacy ledger of this project's private data: commit it.`);
  });
}

async function acknowledge({ marker: named, author, reason, json }: Output & Why & { marker?: string }): Promise<void> {
  const marker = await markerHere(named);
  const { acknowledgeLedger, openUnchecked } = await import('../stack/project-ledger.ts');
  const { recordsOf } = await import('./ledger-records.ts');
  const ledger = await openUnchecked();
  try {
    const { heads, unasked } = await recordsOf(ledger);
    const found = await acknowledgeLedger(ledger, marker, { author, reason }, heads);
    if (json) return printJson({ acknowledged: found, unasked });
    if (found.length === 0) printLine('Nothing is missing from this ledger.');
    for (const text of describe(found)) printLine(`Acknowledged: ${text}.`);
    printUnasked(unasked);
    if (found.some(({ problem }) => problem === 'exchanged')) printLine(`${shortPath(marker)} was changed: commit it.`);
  } finally {
    await ledger.close();
  }
}

async function setBudget(dataset: string, text: string, { reason, author, json }: Output & Why): Promise<void> {
  const epsilon = text === 'none' ? null : Number(text);
  await withLedger({ marker: await markerHere() }, async (ledger) => {
    await ledger.setBudget(dataset, epsilon, { author, reason });
    if (json) printJson(await ledger.accountSummary(dataset));
    else {
      printLine(
        `The budget of ${dataset} is now ${epsilon ?? 'none'}. The next run whose spec states less lowers it to that.`,
      );
    }
  });
}

export function ledgerCommand(program: Command): void {
  const ledger = program
    .command('ledger')
    .description('Show and check what was spent of each dataset.')
    .addHelpText('after', '\nExample:\n  epsilonflow ledger show speeches');
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
    .command('register')
    .description('Say what data are that share records with another account.')
    .argument('<spec>', 'YAML file that names the data')
    .argument('<dataset>', 'name of the dataset there; NAME/test for its test split')
    .option('--joins <account>', 'they belong to this account, and are spent on there')
    .option(
      '--apart-from <account>',
      "what they share with this account is nobody's (may be repeated)",
      (account: string, accounts: string[]) => [...accounts, account],
      [],
    )
    .requiredOption('--reason <text>', 'why')
    .option('--author <name>', 'who decided', userInfo().username)
    .option('--profile <name>', 'apply the overrides of a profile of the spec')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExample: epsilonflow ledger register more.yaml opinions --joins reviews --reason "the same customers"',
    )
    .action(action(register));
  ledger
    .command('acknowledge')
    .description('Go on with a ledger that is not the one, or an older copy of the one, that was used before.')
    .option('--marker <file>', 'the marker that names the ledger (the one of this folder)')
    .requiredOption('--reason <text>', 'why')
    .option('--author <name>', 'who decided', userInfo().username)
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample: epsilonflow ledger acknowledge --reason "disk lost, backup of May restored"')
    .action(action(acknowledge));
  ledger
    .command('verify')
    .description('Recompute chain, sums and records of the ledger, and look for rows that were there before.')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample: epsilonflow ledger verify')
    .action(action(verify));
}
