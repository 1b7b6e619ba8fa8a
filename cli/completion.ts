/** @file `epsilonflow completion`: prints a script by which a shell completes commands, options, runs and specs. */

import { Argument, type Command } from 'commander';

import { partsRoot } from '../stack/paths.ts';
import { bashCompletion } from './completion-bash.ts';
import { fishCompletion } from './completion-fish.ts';
import { type CompletedCommand, completedCommands } from './completion-words.ts';
import { zshCompletion } from './completion-zsh.ts';
import { action, printJson, printLine } from './output.ts';

const shells: Record<string, (commands: readonly CompletedCommand[], home: string) => string> = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
};

export function completionCommand(program: Command): void {
  program
    .command('completion')
    .description('Print a script by which the shell completes commands, options, runs and specs.')
    .addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(shells)))
    .option('--json', 'print the script as one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  epsilonflow completion bash > ~/.local/share/bash-completion/completions/epsilonflow
  epsilonflow completion zsh > ~/.zfunc/_epsilonflow      # with fpath+=(~/.zfunc) before compinit in ~/.zshrc
  epsilonflow completion fish > ~/.config/fish/completions/epsilonflow.fish`,
    )
    .action(
      action((shell: string, { json }: { json?: boolean }): Promise<void> => {
        const script = shells[shell]!(completedCommands(program), partsRoot);
        if (json) printJson({ shell, script });
        else printLine(script);
        return Promise.resolve();
      }),
    );
}
