/** @file `epsilonflow completion`: prints a script by which a shell completes commands, options, runs and specs. */

import { Argument, type Command } from 'commander';

import { partsRoot } from '../stack/paths.ts';
import { action, printLine } from './output.ts';

export function completionCommand(program: Command): void {
  program
    .command('completion')
    .description('Print a script by which the shell completes commands, options, runs and specs.')
    .addArgument(new Argument('<shell>', 'the shell').choices(['bash']))
    .addHelpText(
      'after',
      '\nExample: epsilonflow completion bash > ~/.local/share/bash-completion/completions/epsilonflow',
    )
    .action(
      action((): Promise<void> => {
        printLine(bashScript(program));
        return Promise.resolve();
      }),
    );
}

/** Single-quoted for a shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`;

/** The command line up to a command, without the program's name: `ledger show`. */
function* pathsOf(command: Command, path = ''): Generator<[path: string, command: Command]> {
  yield [path, command];
  for (const child of command.commands) yield* pathsOf(child, `${path} ${child.name()}`.trim());
}

const optionsOf = (command: Command): string[] =>
  command
    .createHelp()
    .visibleOptions(command)
    .flatMap(({ long }) => long ?? []);

/** Options that the next word belongs to. */
const optionsWithValue = (command: Command): string[] =>
  command.options.filter(({ required }) => required).flatMap(({ long, short }) => [long ?? [], short ?? []].flat());

/** What stands where an argument goes: subcommands, or of each argument its choices or what it names. */
function argumentsOf(command: Command): string[] {
  if (command.commands.length > 0) return [`words:${command.commands.map((child) => child.name()).join(' ')}`];
  return command.registeredArguments.map((argument) =>
    argument.argChoices ? `words:${argument.argChoices.join(' ')}` : argument.name(),
  );
}

function caseOf([path, command]: [string, Command]): string {
  const lines = [
    `options=${quoted(optionsOf(command).join(' '))}`,
    `valued=${quoted(` ${optionsWithValue(command).join(' ')} `)}`,
    `arguments=(${argumentsOf(command).map(quoted).join(' ')})`,
  ];
  return `    ${quoted(path)}) ${lines.join('; ')} ;;`;
}

/** The commands are part of the script, so that a completion starts no process. */
function bashScript(program: Command): string {
  const tree = [...pathsOf(program)];
  const groups = tree.filter(([, { commands }]) => commands.length > 0).map(([path]) => quoted(path));
  return String.raw`# Completion of epsilonflow for bash.
_epsilonflow_command() {
  case "$1" in
${tree.map(caseOf).join('\n')}
    *) options=''; valued=''; arguments=() ;;
  esac
}
_epsilonflow_runs() {
  local home=${quoted(partsRoot)} file
  [[ -n $EPSILONFLOW_HOME ]] && home="$EPSILONFLOW_HOME"
  echo latest
  for file in "$home"/runs/*/*/run.json; do
    [[ -e $file ]] || continue
    file="${'${file%/run.json}'}"
    echo "${'${file#"$home"/runs/}'}"
  done
}
_epsilonflow() {
  local current="${'${COMP_WORDS[COMP_CWORD]}'}" path='' position=0 options valued arguments word index
  COMPREPLY=()
  _epsilonflow_command ''
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="${'${COMP_WORDS[index]}'}"
    if [[ $word == -* ]]; then
      if [[ $valued == *" $word "* ]]; then
        [[ ${'${COMP_WORDS[index + 1]}'} == '=' ]] && ((index++))
        ((index++))
      fi
      continue
    fi
    case "$path" in
      ${groups.join(' | ')}) path="${'${path:+$path }'}$word"; _epsilonflow_command "$path" ;;
      *) ((position++)) ;;
    esac
  done
  # The word is the value of an option: a file name, if anything.
  ((index > COMP_CWORD)) && return
  if [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
    return
  fi
  case "${'${arguments[position]}'}" in
    words:*) mapfile -t COMPREPLY < <(compgen -W "${'${arguments[position]#words:}'}" -- "$current") ;;
    run | run-or-folder) mapfile -t COMPREPLY < <(compgen -W "$(_epsilonflow_runs)" -- "$current") ;;
    spec)
      compopt -o filenames
      mapfile -t COMPREPLY < <(
        compgen -f -X '!*.yaml' -- "$current"
        compgen -f -X '!*.yml' -- "$current"
        compgen -d -- "$current"
      )
      ;;
  esac
}
complete -o default -F _epsilonflow epsilonflow`;
}
