/** @file What the accounts that a run spends from come to while it goes on, as the ledger counts it. */

import { existsSync, readFileSync } from 'node:fs';
import { markerFile, type AccountSummary, type KnownHead, type Ledger } from '../privacy/ledger/index.ts';
import type { Plan } from '../schemas/plan.ts';
import { openProjectLedger } from '../stack/project-ledger.ts';
import { ledgerHeadFile, type RunFolder } from '../tracking/runs.ts';
import { showEpsilon } from '../tracking/wording.ts';

/**
 * Of the accounts that hold entries of the run. The ledger is one that holds all that is remembered of it.
 *
 * @throws EpsilonflowError LEDGER_MISMATCH, LEDGER_ROLLED_BACK, SERVICE_UNREACHABLE
 */
export class SpentEpsilon {
  private readonly folder: RunFolder;
  /** Names of the accounts, once the run has reserved. */
  private accounts: string[] | null = null;
  private last: { head: string; lines: string[] } | null = null;

  constructor(folder: RunFolder) {
    this.folder = folder;
  }

  async lines(): Promise<string[]> {
    const { directory, record } = this.folder;
    const headFile = ledgerHeadFile(directory);
    const known = existsSync(headFile) ? (JSON.parse(readFileSync(headFile, 'utf8')) as KnownHead) : null;
    const ledger = await openProjectLedger(markerFile(record.specFile), { remembered: true, known });
    try {
      const { hash: head } = await ledger.head();
      // Everything that counts is a row of the chain.
      if (this.last?.head !== head) this.last = { head, lines: (await this.summaries(ledger)).map(spentLine) };
      return this.last.lines;
    } finally {
      await ledger.close();
    }
  }

  private async summaries(ledger: Ledger): Promise<AccountSummary[]> {
    const accounts = this.accounts ?? (await ledger.accounts());
    const summaries = (await Promise.all(accounts.map((account) => ledger.accountSummary(account)))).filter(
      (summary) => summary !== null,
    );
    const { workflowId } = this.folder.record;
    const own = summaries.filter(({ experiments }) => experiments.some((each) => each.workflowId === workflowId));
    if (own.length > 0) this.accounts = own.map(({ account }) => account);
    return own;
  }
}

/** Whether a run charges anything. */
export const spends = ({ privacy }: Pick<Plan, 'privacy'>): boolean => Object.keys(privacy).length > 0;

/** `speeches: 3.2 committed, 8.1 of 10 with all that is reserved, at delta 0.00001` */
export function spentLine(summary: AccountSummary): string {
  const { account, committed, total, budget, delta, unbounded, waivers, losses } = summary;
  const of = budget === null ? '' : ` of ${budget}`;
  const caveats = [
    ...(unbounded > 0 ? [`${unbounded} entries without DP, which no epsilon bounds`] : []),
    ...(waivers.length > 0 ? [`not counted: exact figures under ${names(waivers.map(({ waiver }) => waiver))}`] : []),
    ...(losses.length > 0 ? ['not counted: what rows held that the ledger has lost'] : []),
  ];
  const figures = `${showEpsilon(committed)} committed, ${showEpsilon(total)}${of} with all that is reserved`;
  return [`${account}: ${figures}, at delta ${Number(delta.toPrecision(4))}`, ...caveats].join('; ');
}

const names = (values: readonly string[]): string => [...new Set(values)].join(', ');
