/** @file Completion in fish. */

import type { CompletedCommand, CompletedOption, CompletedPlace } from './completion-words.ts';

/** Single-quoted for fish. */
const quoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", String.raw`\'`)}'`;

const offer = (condition: string, rest: string, description: string): string =>
  `complete -c epsilonflow -n ${quoted(condition)} ${rest}${description === '' ? '' : ` -d ${quoted(description)}`}`;

function optionLine(path: string, { names, description, takesValue, choices }: CompletedOption): string {
  const flags = names.map((name) => (name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`));
  const value = takesValue ? [choices.length > 0 ? `-x -a ${quoted(choices.join(' '))}` : '-r'] : [];
  return offer(`__epsilonflow_in ${quoted(path)}`, [...flags, ...value].join(' '), description);
}

function placeLines(path: string, place: CompletedPlace, position: number): string[] {
  const condition = `__epsilonflow_in ${quoted(path)} ${position}`;
  switch (place.kind) {
    case 'words':
      return place.words.map(({ word, description }) => offer(condition, `-a ${quoted(word)}`, description));
    case 'run':
      return [offer(condition, "-a '(__epsilonflow_runs)'", '')];
    case 'spec':
      return [offer(condition, "-a '(__epsilonflow_specs)'", '')];
    case 'anything':
      return [offer(condition, '-F', '')];
  }
}

const linesOf = ({ path, options, places }: CompletedCommand): string[] => [
  ...options.map((option) => optionLine(path, option)),
  ...places.flatMap((place, position) => placeLines(path, place, position)),
];

/** @param home folder of the run state */
export function fishCompletion(commands: readonly CompletedCommand[], home: string): string {
  const groups = commands.filter(({ isGroup }) => isGroup).map(({ path }) => quoted(path));
  const valued = commands.flatMap(({ path, options }) =>
    options
      .filter(({ takesValue }) => takesValue)
      .flatMap(({ names }) => names.map((name) => quoted(`${path}:${name}`))),
  );
  return String.raw`# Completion of epsilonflow for fish.
# Whether the command line is at a command, and at which of its arguments.
function __epsilonflow_in --argument-names wanted position
    set -l words (commandline -opc)
    set -e words[1]
    set -l path ''
    set -l place 0
    set -l is_value 0
    for word in $words
        if test $is_value = 1
            set is_value 0
        else if string match -q -- '-*' $word
            contains -- "$path:$word" ${valued.join(' ')}
            and set is_value 1
        else if contains -- "$path" ${groups.join(' ')}
            set path (string trim -- "$path $word")
        else
            set place (math $place + 1)
        end
    end
    test "$path" = "$wanted"
    and begin
        test -z "$position"
        or test "$place" = "$position"
    end
end
function __epsilonflow_runs
    set -l home ${quoted(home)}
    test -n "$EPSILONFLOW_HOME"
    and set home $EPSILONFLOW_HOME
    echo latest
    for file in $home/runs/*/*/run.json
        string replace -- "$home/runs/" '' (string replace -r -- '/run\.json$' '' $file)
    end
end
function __epsilonflow_specs
    set -l start (commandline -ct)
    for file in $start*.yaml $start*.yml $start*/
        echo $file
    end
end
complete -c epsilonflow -f
${commands.flatMap(linesOf).join('\n')}`;
}
