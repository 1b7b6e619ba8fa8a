/** @file A question that is asked again and again beside other work: soon after news, ever less often without. */

/** Milliseconds. */
interface Pace {
  least: number;
  most: number;
}

/** How much rarer it gets with each answer that brings no news. */
const slowdown = 1.5;

/** A question that takes long leaves so much more time to the rest. */
const share = 4;

export class Asker {
  private readonly ask: () => Promise<void>;
  private readonly pace: Pace;
  private wait: number;
  private askedAt = -Infinity;
  private restUntil = -Infinity;
  private seen: number | null = null;
  private isAsking = false;
  private failure: { error: unknown } | null = null;

  constructor(ask: () => Promise<void>, pace: Pace) {
    this.ask = ask;
    this.pace = pace;
    this.wait = pace.least;
  }

  /**
   * Asks when it is time; waits for no answer.
   *
   * @param news another number than before when something has happened
   * @throws what asking has thrown
   */
  tick(news: number, now: number): void {
    if (this.failure !== null) throw this.failure.error;
    if (news !== this.seen) this.wait = this.pace.least;
    this.seen = news;
    if (this.isAsking || now < Math.max(this.askedAt + this.wait, this.restUntil)) return;
    this.askedAt = now;
    this.wait = Math.min(this.pace.most, this.wait * slowdown);
    void this.answer();
  }

  private async answer(): Promise<void> {
    this.isAsking = true;
    const startedAt = performance.now();
    try {
      await this.ask();
    } catch (error) {
      this.failure = { error };
    }
    this.isAsking = false;
    this.restUntil = Date.now() + share * (performance.now() - startedAt);
  }
}
