/** @file Completion in bash. */

import type { CompletedCommand, CompletedPlace } from './completion-words.ts';
import { quoted } from './completion-words.ts';

const placeText = (place: CompletedPlace): string =>
  place.kind === 'words' ? `words:${place.words.map(({ word }) => word).join(' ')}` : place.kind;

function caseOf({ path, options, places }: CompletedCommand): string {
  const valued = options.filter(({ takesValue }) => takesValue);
  const choices = valued.filter(({ choices }) => choices.length > 0);
  const lines = [
    `options=${quoted(options.map(({ names }) => names[0]).join(' '))}`,
    `valued=${quoted(` ${valued.flatMap(({ names }) => names).join(' ')} `)}`,
    `places=(${places.map((place) => quoted(placeText(place))).join(' ')})`,
    ...choices.map(({ names, choices }) => `choices[${quoted(names[0]!)}]=${quoted(choices.join(' '))}`),
  ];
  return `    ${quoted(path)}) ${lines.join('; ')} ;;`;
}

/** The commands are part of the script, so that a completion starts no process. @param home folder of the run state */
export function bashCompletion(commands: readonly CompletedCommand[], home: string): string {
  const groups = commands.filter(({ isGroup }) => isGroup).map(({ path }) => quoted(path));
  return String.raw`# Completion of epsilonflow for bash.
_epsilonflow_command() {
  choices=()
  case "$1" in
${commands.map(caseOf).join('\n')}
    *) options=''; valued=''; places=() ;;
  esac
}
_epsilonflow_runs() {
  local home=${quoted(home)} file
  [[ -n $EPSILONFLOW_HOME ]] && home="$EPSILONFLOW_HOME"
  echo latest
  for file in "$home"/runs/*/*/run.json; do
    [[ -e $file ]] || continue
    file="${'${file%/run.json}'}"
    echo "${'${file#"$home"/runs/}'}"
  done
}
_epsilonflow() {
  local current="${'${COMP_WORDS[COMP_CWORD]}'}" path='' position=0 options valued places word option index
  local -A choices
  COMPREPLY=()
  _epsilonflow_command ''
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="${'${COMP_WORDS[index]}'}"
    if [[ $word == -* ]]; then
      if [[ $valued == *" $word "* ]]; then
        option="$word"
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
  # The word is the value of an option: one of its choices, or else a file name, if anything.
  if ((index > COMP_CWORD)); then
    [[ $current == '=' ]] && current=''
    [[ -n ${'${choices[$option]}'} ]] && mapfile -t COMPREPLY < <(compgen -W "${'${choices[$option]}'}" -- "$current")
    return
  fi
  if [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
    return
  fi
  case "${'${places[position]}'}" in
    words:*) mapfile -t COMPREPLY < <(compgen -W "${'${places[position]#words:}'}" -- "$current") ;;
    run) mapfile -t COMPREPLY < <(compgen -W "$(_epsilonflow_runs)" -- "$current") ;;
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
