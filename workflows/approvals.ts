/** @file What of a run waits for someone's approval, and what was approved. Pure. */

import type { CarriedRun, SoftOverrun } from '../activities/contract.ts';
import type { Approval, PendingApproval } from '../schemas/approvals.ts';

type CarriedApprovals = Pick<CarriedRun, 'approvals' | 'recordedApprovals'>;

export class Approvals {
  /** In the order in which they were given. */
  readonly given: Approval[];
  private awaited: PendingApproval = { steps: [], accounts: [] };
  private recorded: number;

  constructor({ approvals = [], recordedApprovals = approvals.length }: CarriedApprovals = {}) {
    this.given = [...approvals];
    this.recorded = recordedApprovals;
  }

  /** One that was given at the last moment is recorded by the run that continues. */
  carried(): CarriedApprovals {
    return { approvals: this.given, recordedApprovals: this.recorded };
  }

  /** Null when nothing waits. */
  get waiting(): PendingApproval | null {
    const { steps, accounts } = this.awaited;
    return steps.length + accounts.length === 0 ? null : this.awaited;
  }

  isStepApproved(step: string): boolean {
    return this.given.some(({ steps }) => steps.includes(step));
  }

  /** An approval holds for what an account came to then, not for more. */
  private isAccountApproved({ account, epsilon }: SoftOverrun): boolean {
    return this.given
      .flatMap(({ accounts }) => accounts)
      .some(
        (approved) =>
          approved.account === account &&
          (approved.epsilon === null || (epsilon !== null && epsilon <= approved.epsilon)),
      );
  }

  /** Says what waits now, without what is approved. Returns whether that is to be noted. */
  wait({ steps = [], accounts = [] }: Partial<PendingApproval>): boolean {
    const before = JSON.stringify(this.awaited);
    this.awaited = {
      steps: steps.filter((step) => !this.isStepApproved(step)),
      accounts: accounts.filter((account) => !this.isAccountApproved(account)),
    };
    return this.waiting !== null && JSON.stringify(this.awaited) !== before;
  }

  /** Approves all that waits. Null when nothing does. */
  give(author: string, reason: string, time: number): Approval | null {
    if (!this.waiting) return null;
    const approval = { author, reason, time, ...this.awaited };
    this.given.push(approval);
    this.awaited = { steps: [], accounts: [] };
    return approval;
  }

  hasUnrecorded(): boolean {
    return this.recorded < this.given.length;
  }

  /** Those that are to be recorded, once each. */
  takeUnrecorded(): Approval[] {
    const unrecorded = this.given.slice(this.recorded);
    this.recorded = this.given.length;
    return unrecorded;
  }
}
