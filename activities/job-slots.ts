/** @file How many jobs run at a time on this host, whatever queues they come from. */

import { Context } from '@temporalio/activity';

/** How often a step that waits for its turn shows that its worker lives, milliseconds. */
const beatEvery = 30_000;

export class JobSlots {
  private free: number;
  private readonly waiting: (() => void)[] = [];

  constructor(count: number) {
    this.free = count;
  }

  /** Waits for a place. Call what it returns to give the place back. @throws the signal's reason when it is aborted first */
  async take(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.free > 0) this.free -= 1;
    else await this.turn(signal);
    let isTaken = true;
    return () => {
      if (!isTaken) return;
      isTaken = false;
      const next = this.waiting.shift();
      if (next) next();
      else this.free += 1;
    };
  }

  private async turn(signal: AbortSignal): Promise<void> {
    const activity = Context.current();
    const beating = setInterval(() => activity.heartbeat(), beatEvery);
    try {
      await new Promise<void>((resolve, reject) => {
        this.waiting.push(resolve);
        const leave = (): void => {
          const place = this.waiting.indexOf(resolve);
          if (place < 0) return;
          this.waiting.splice(place, 1);
          reject(signal.reason as Error);
        };
        signal.addEventListener('abort', leave, { once: true });
      });
    } finally {
      clearInterval(beating);
    }
  }
}
