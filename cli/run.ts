/** @file `epsilonflow run`: compiles a spec, starts its run or takes it up again, and shows it until its end. */

import type { Command } from 'commander';
import { parsePriority, priorityHelp } from './priority.ts';
import { action } from './output.ts';
import type { ShowOptions } from './show-run.ts';

interface RunOptions extends ShowOptions {
  profile?: string;
}

export function runCommand(program: Command): void {
  program
    .command('run')
    .description('Run a spec. Ctrl-C leaves the run going; the same command shows it again.')
    .argument('<spec>', 'YAML file of the experiment')
    .option('--profile <name>', 'apply the overrides of a profile of the spec')
    .option('--priority <1-5>', priorityHelp, parsePriority)
    .option('--detach', 'start it and return')
    .option('--json', 'print the outcome as JSON')
    .addHelpText('after', '\nExample:\n  epsilonflow run experiments/quickstart.yaml')
    .action(action(run));
}

async function run(spec: string, options: RunOptions): Promise<number> {
  const { compileRun, startAndShow } = await import('./show-run.ts');
  return startAndShow(await compileRun(spec, options.profile), options);
}
