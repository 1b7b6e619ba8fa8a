/** @file What a worker says of work that it tries again by itself: each kind of failure once an hour. */

import { errorCodes } from '../schemas/error-codes.ts';
import { systemError } from '../schemas/system-errors.ts';
import { failureDoor } from '../tracking/door.ts';
import { faultOf } from './errors.ts';

/** How long nothing more is said of a kind, milliseconds. */
const silence = 3_600_000;

export class Troubles {
  private readonly say: (line: string) => void;
  /** By kind, when it was told. */
  private readonly told = new Map<string, number>();

  constructor(say: (line: string) => void) {
    this.say = say;
  }

  /**
   * Does work whose failure stops nothing. Of a failure it says what it means and what to do.
   *
   * @param meaning what does not come about, for people
   */
  async watch(meaning: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.note(meaning, error);
    }
  }

  /** Says it, unless it was said of late. */
  note(meaning: string, error: unknown): void {
    const { code, errorClass, message, hint } = faultOf(systemError(error));
    // Who reads the log of a worker may not be one who may read private data.
    const failure = failureDoor({ isPrivate: true, isShut: true })({ code: code ?? errorClass, message, hint });
    const known = code === null ? null : errorCodes[code];
    const told = failure.message === message ? [message, hint ?? known?.remedy] : [known?.summary, known?.remedy];
    const kind = `${failure.code}: ${meaning}`;
    const now = Date.now();
    if (now - (this.told.get(kind) ?? -Infinity) < silence) return;
    this.told.set(kind, now);
    const sentences = [`${kind}.`, ...told.filter((text) => text), 'It is tried again by itself.'];
    this.say(`${new Date(now).toISOString()} ${sentences.join(' ')}`);
  }
}

/** Those of this process. */
export const troubles = new Troubles((line) => console.error(line));
