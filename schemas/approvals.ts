/** @file What of a run waits for someone's approval, and approvals. */

/** Steps of which an instance could start, and accounts that the run would bring above their soft budgets. */
export interface PendingApproval {
  steps: string[];
  /** `epsilon` is what the account would come to, rounded up; null when unbounded. */
  accounts: { account: string; epsilon: number | null; softBudget: number }[];
}

export interface Approval extends PendingApproval {
  author: string;
  reason: string;
  /** Milliseconds since 1970. */
  time: number;
}

export const describeApproval = ({ steps, accounts }: PendingApproval): string =>
  [
    ...steps.map((step) => `step ${step}`),
    ...accounts.map(({ account, epsilon, softBudget }) => {
      const figure = epsilon === null ? 'unbounded epsilon' : `epsilon ${epsilon}`;
      return `${account} at ${figure}, above its soft budget of ${softBudget}`;
    }),
  ].join('; ');
