/** @file `epsilonflow plan`: what a spec would run, and what it would cost in privacy. */

import type { Command } from 'commander';

export function planCommand(program: Command): void {
  program
    .command('plan')
    .description('Show what a spec would run, what is there already, and what it costs in privacy. Runs nothing.')
    .argument('<spec>', 'YAML file of the experiment');
}
