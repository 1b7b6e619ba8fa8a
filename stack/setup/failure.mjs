/** The error of set-up: what happened and what to do about it. */

export class SetupFailure extends Error {
  /**
   * @param {string} message what happened
   * @param {string} hint what to do, as one or more sentences
   */
  constructor(message, hint) {
    super(message);
    this.name = 'SetupFailure';
    this.hint = hint;
  }
}
