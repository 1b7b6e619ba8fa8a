/**
 * @file Places for jobs of a device on this host, whatever queues they come from. A queue is asked for a job only while a
 * place is free; what comes all the same, of two that were asked at once, goes back to its queue.
 */

import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import type {
  ActivitySlotInfo,
  CustomSlotSupplier,
  SlotMarkUsedContext,
  SlotPermit,
  SlotReleaseContext,
  SlotReserveContext,
} from '@temporalio/worker';
import type { ErrorCode } from '../schemas/error-codes.ts';

/** Whether a queue that was asked first has a job, is known after so long, milliseconds. */
const patience = 200;

/** How soon other workers may take what was given back. */
const givenBackFor = '100 milliseconds';

/** Leave to ask a queue for a job, and to do the job that comes. */
class Permit implements SlotPermit {
  readonly queue: string;
  isUsed = false;

  constructor(queue: string) {
    this.queue = queue;
  }
}

interface Request {
  queue: string;
  grant(permit: Permit): void;
}

export class JobSlots implements CustomSlotSupplier<ActivitySlotInfo> {
  readonly type = 'custom';
  private readonly count: number;
  /** Jobs that have a place. */
  private running = 0;
  /** Tasks that queues have given: for a moment there may be more than places. */
  private given = 0;
  /** Queues that are being asked, each once at a time. */
  private readonly asked = new Set<string>();
  private readonly requests: Request[] = [];
  private timer: NodeJS.Timeout | null = null;

  constructor(count: number) {
    this.count = count;
  }

  /** Does a job in a place, or gives it back. @throws ApplicationFailure WORKER_BUSY */
  async inPlace<T>(work: () => Promise<T>): Promise<T> {
    if (this.running >= this.count) throw busy();
    this.running += 1;
    try {
      return await work();
    } finally {
      this.running -= 1;
    }
  }

  reserveSlot({ taskQueue: queue }: SlotReserveContext, signal: AbortSignal): Promise<Permit> {
    return new Promise((resolve, reject) => {
      const request: Request = { queue, grant: resolve };
      const leave = (): void => {
        const place = this.requests.indexOf(request);
        if (place >= 0) this.requests.splice(place, 1);
        reject(signal.reason as Error);
      };
      signal.addEventListener('abort', leave, { once: true });
      this.requests.push(request);
      this.grant();
    });
  }

  /** No workflow runs in these queues whose answer could bring a job along. */
  tryReserveSlot(): null {
    return null;
  }

  markSlotUsed({ permit }: SlotMarkUsedContext<ActivitySlotInfo>): void {
    const used = permit as Permit;
    used.isUsed = true;
    this.given += 1;
    this.asked.delete(used.queue);
    this.grant();
  }

  releaseSlot({ permit }: SlotReleaseContext<ActivitySlotInfo>): void {
    const { queue, isUsed } = permit as Permit;
    if (isUsed) this.given -= 1;
    else this.asked.delete(queue);
    this.grant();
  }

  /** Lets as many queues be asked as there are places, and more of them after a while. */
  private grant(isPatient = true): void {
    for (let more = !isPatient; this.given < this.count; more = false) {
      const next = this.requests.findIndex(({ queue }) => !this.asked.has(queue));
      if (next < 0) return;
      if (this.asked.size >= this.count - this.given && !more) return this.wait();
      const [{ queue, grant }] = this.requests.splice(next, 1) as [Request];
      this.asked.add(queue);
      grant(new Permit(queue));
    }
  }

  private wait(): void {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.grant(false);
    }, patience).unref();
  }
}

/** Does a step in one of the places of its queue's device. */
export function inTurn<T>(slots: Partial<Record<string, JobSlots>> | undefined, work: () => Promise<T>): Promise<T> {
  if (slots === undefined) return work();
  const places = slots[Context.current().info.taskQueue.split('.')[0]!];
  return places ? places.inPlace(work) : work();
}

const busy = (): ApplicationFailure =>
  ApplicationFailure.create({
    type: 'WORKER_BUSY' satisfies ErrorCode,
    message: 'All places for jobs of this worker were taken; the step waits in its queue for one that is free.',
    nextRetryDelay: givenBackFor,
  });
