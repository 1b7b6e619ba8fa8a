/** @file What checks of evidence find: a count of comparisons, and what differs. */

interface Mismatch {
  /** What was checked: `spec`, `plan`, `epsilon`, `account`, `ledger`, `proof`, `result`, `statement`, `files`. */
  check: string;
  /** Node, account or row. */
  subject: string;
  message: string;
}

export interface Verdict {
  /** Number of comparisons by check. */
  checked: Record<string, number>;
  mismatches: Mismatch[];
}

export class Findings {
  readonly checked: Record<string, number> = {};
  readonly mismatches: Mismatch[] = [];

  /** Counts a comparison; `difference` says what is wrong, null that nothing is. */
  add(check: string, subject: string, difference: string | null): void {
    this.checked[check] = (this.checked[check] ?? 0) + 1;
    if (difference !== null) this.mismatches.push({ check, subject, message: difference });
  }

  /** The same of a comparison that what it reads may be too damaged for. */
  compare(check: string, subject: string, difference: () => string | null): void {
    let found: string | null;
    try {
      found = difference();
    } catch (error) {
      found = unreadable(error);
    }
    this.add(check, subject, found);
  }

  /** Runs several checks; damage that none of them expects ends them with a mismatch. */
  within(check: string, subject: string, checks: () => void): void {
    try {
      checks();
    } catch (error) {
      this.add(check, subject, unreadable(error));
    }
  }
}

const unreadable = (error: unknown): string =>
  `it can't be checked, being damaged: ${error instanceof Error ? error.message : String(error)}`;
