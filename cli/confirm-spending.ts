/** @file Shows what a plan would charge anew, and has it agreed to. */

import { createInterface } from 'node:readline/promises';
import { accountOf, chargesOf } from '../schemas/charges.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Plan } from '../schemas/plan.ts';
import { showEpsilon } from '../tracking/wording.ts';

/** @throws EpsilonflowError SPENDING_UNCONFIRMED */
export async function confirmSpending(plan: Plan, agreed: boolean): Promise<void> {
  const lines = spendingLines(plan);
  if (lines.length === 0) return;
  process.stderr.write(`Charged anew, also where an earlier attempt was charged:\n${lines.join('\n')}\n`);
  if (agreed || (await isAgreedTo('Spend this?'))) return;
  throw new EpsilonflowError('SPENDING_UNCONFIRMED', `Nothing was started. It would charge: ${lines.join('; ')}`, {
    hint: 'Give --spend to agree.',
  });
}

/** One line for each account on which an instance without a result would be charged. */
export function spendingLines({ nodes, privacy }: Plan): string[] {
  const counts = new Map<string, number>();
  for (const charge of nodes.filter(({ cached }) => cached !== true).flatMap(chargesOf))
    counts.set(accountOf(charge), (counts.get(accountOf(charge)) ?? 0) + 1);
  return [...counts].map(([account, count]) => {
    const { before, after, unbounded, unboundedBefore } = privacy[account]!;
    const from = before === null || unboundedBefore !== 0 ? 'unbounded' : `epsilon ${showEpsilon(before)}`;
    const to = after === null || unbounded + (unboundedBefore ?? 0) > 0 ? 'unbounded' : `epsilon ${showEpsilon(after)}`;
    return `${account}: ${count} ${count === 1 ? 'entry' : 'entries'}, the account goes from ${from} to ${to}`;
  });
}

/** Asks on a terminal. Answers other than `y` or `yes` refuse. */
export async function isAgreedTo(question: string): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `)).trim());
  } finally {
    terminal.close();
  }
}
