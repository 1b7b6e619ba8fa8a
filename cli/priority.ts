/** @file The option `--priority` of commands that start runs. */

import { InvalidArgumentError } from 'commander';

export const priorityHelp = 'whose steps go first where experiments wait for workers: 1 before all, 5 last';

export function parsePriority(text: string): number {
  if (/^[1-5]$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It must be a whole number from 1 to 5.');
}
