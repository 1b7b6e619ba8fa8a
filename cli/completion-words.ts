/** @file What can stand on a command line: read from the commands themselves, and the same for every shell. */

import type { Argument, Command, Option } from 'commander';

export interface CompletedOption {
  /** `--json`, and its short form where it has one. */
  names: string[];
  description: string;
  takesValue: boolean;
  /** What the value may be; empty where anything may. */
  choices: readonly string[];
}

export interface CompletedWord {
  word: string;
  description: string;
}

/** What stands where an argument goes. */
export type CompletedPlace =
  { kind: 'words'; words: CompletedWord[] } | { kind: 'run' } | { kind: 'spec' } | { kind: 'anything' };

export interface CompletedCommand {
  /** The command line up to here, without the program's name: `ledger show`. */
  path: string;
  /** Its first word is that of a command of its own. */
  isGroup: boolean;
  options: CompletedOption[];
  /** Of a group: its commands. */
  places: CompletedPlace[];
}

/** The program itself first, then each command. */
export const completedCommands = (program: Command): CompletedCommand[] => commandsBelow(program, '');

function commandsBelow(command: Command, path: string): CompletedCommand[] {
  const own: CompletedCommand = {
    path,
    isGroup: command.commands.length > 0,
    options: command.createHelp().visibleOptions(command).map(completedOption),
    places: placesOf(command),
  };
  return [own, ...command.commands.flatMap((child) => commandsBelow(child, `${path} ${child.name()}`.trim()))];
}

const completedOption = ({ long, short, description, required, argChoices }: Option): CompletedOption => ({
  names: [long ?? [], short ?? []].flat(),
  description,
  takesValue: required,
  choices: argChoices ?? [],
});

function placesOf(command: Command): CompletedPlace[] {
  if (command.commands.length > 0) {
    const words = command.commands.map((child) => ({ word: child.name(), description: child.description() }));
    return [{ kind: 'words', words }];
  }
  return command.registeredArguments.map(placeOf);
}

function placeOf(argument: Argument): CompletedPlace {
  if (argument.argChoices) {
    return { kind: 'words', words: argument.argChoices.map((word) => ({ word, description: '' })) };
  }
  switch (argument.name()) {
    case 'run':
    case 'run-or-folder':
      return { kind: 'run' };
    case 'spec':
      return { kind: 'spec' };
    default:
      return { kind: 'anything' };
  }
}

/** Single-quoted for bash and zsh. */
export const quoted = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`;
