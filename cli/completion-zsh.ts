/** @file Completion in zsh. */

import type { CompletedCommand, CompletedPlace, CompletedWord } from './completion-words.ts';
import { quoted } from './completion-words.ts';

/** As `_describe` reads it. */
const described = ({ word, description }: CompletedWord): string =>
  quoted(`${word.replaceAll(':', String.raw`\:`)}${description === '' ? '' : `:${description}`}`);

const placeText = (place: CompletedPlace): string => (place.kind === 'words' ? 'words' : place.kind);

function caseOf({ path, options, places }: CompletedCommand): string {
  const flags = options.map(({ names, description }) => described({ word: names[0]!, description }));
  const valued = options.filter(({ takesValue }) => takesValue);
  const choices = valued.filter(({ choices }) => choices.length > 0);
  const words = places.flatMap((place) => (place.kind === 'words' ? place.words : []));
  const lines = [
    `flags=(${flags.join(' ')})`,
    `valued=(${valued.flatMap(({ names }) => names).join(' ')})`,
    `places=(${places.map(placeText).join(' ')})`,
    `proposed=(${words.map(described).join(' ')})`,
    ...choices.map(({ names, choices }) => `choices[${names[0]}]=${quoted(choices.join(' '))}`),
  ];
  return `    ${path === '' ? "''" : quoted(path)}) ${lines.join('; ')} ;;`;
}

/** @param home folder of the run state */
export function zshCompletion(commands: readonly CompletedCommand[], home: string): string {
  const groups = commands.filter(({ isGroup }) => isGroup).map(({ path }) => quoted(path));
  return String.raw`#compdef epsilonflow
# Completion of epsilonflow for zsh.
_epsilonflow_command() {
  choices=()
  case "$1" in
${commands.map(caseOf).join('\n')}
    *) flags=(); valued=(); places=(); proposed=() ;;
  esac
}
_epsilonflow_runs() {
  local home=${quoted(home)}
  [[ -n $EPSILONFLOW_HOME ]] && home="$EPSILONFLOW_HOME"
  local -a runs
  runs=("$home"/runs/*/*/run.json(N:h))
  compadd -- latest "${'${(@)runs#$home/runs/}'}"
}
_epsilonflow() {
  local command_path='' word option
  local -a flags valued places proposed
  local -A choices
  integer index position=1
  _epsilonflow_command ''
  for ((index = 2; index < CURRENT; index++)); do
    word="${'${(Q)words[index]}'}"
    if [[ $word == -* ]]; then
      (( ${'${valued[(Ie)$word]}'} )) && { option="$word"; (( index++ )); }
      continue
    fi
    case "$command_path" in
      (${groups.join('|')}) command_path="${'${command_path:+$command_path }'}$word"; _epsilonflow_command "$command_path" ;;
      (*) (( position++ )) ;;
    esac
  done
  # The word is the value of an option: one of its choices, or else a file name, if anything.
  if (( index > CURRENT )); then
    if [[ -n ${'${choices[$option]}'} ]]; then compadd -- ${'${=choices[$option]}'}; else _files; fi
    return
  fi
  if [[ $PREFIX == -* ]]; then
    _describe -o option flags
    return
  fi
  case "${'${places[position]}'}" in
    (words) _describe word proposed ;;
    (run) _epsilonflow_runs ;;
    (spec) _files -g '*.(yaml|yml)' ;;
    (anything) _files ;;
  esac
}
if [[ ${'${zsh_eval_context[-1]}'} == loadautofunc ]]; then _epsilonflow "$@"; else compdef _epsilonflow epsilonflow; fi`;
}
