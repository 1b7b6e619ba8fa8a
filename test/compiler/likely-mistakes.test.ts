import { afterAll, describe, expect, it } from 'vitest';

import { errorRecords } from '../../cli/output.ts';
import { openWorkspace, preamble } from './workspace.ts';

const workspace = openWorkspace();
afterAll(() => workspace.remove());

/** A sound spec that the tests spoil. */
const sound = `${preamble}
matrix:
  epsilon: [8, .inf]
steps:
  generator:
    uses: finetune
    with: { model: base, data: reviews, epsilon: "\${{ matrix.epsilon }}" }
  synthetic:
    uses: generate
    with: { generator: "\${{ steps.generator }}", count: 100 }
  on-synthetic:
    uses: train-classifier
    with: { train: "\${{ steps.synthetic }}", test: reviews }
`;

/** All that is said of a spec, as `epsilonflow validate` prints it; the text under test must be there. */
async function said(spec: string): Promise<string> {
  const faults: unknown = await workspace.compile(spec).catch((error: unknown) => error);
  const records = errorRecords(faults);
  // What is wrong and where is half of it: the hint says what to do.
  expect(records.filter(({ hint }) => hint === null).map(({ message }) => message)).toEqual([]);
  return records
    .map(({ file, line, column, code, message, hint }) => {
      const place = `${file}:${line}:${column}`;
      return `${place} error ${code}: ${message}${hint === null ? '' : `\n  hint: ${hint}`}`;
    })
    .join('\n')
    .replaceAll(`${workspace.folder}/`, '');
}

async function spoilt(from: string, to: string): Promise<string> {
  if (!sound.includes(from)) throw new Error(`The spec under test has no ${from}`);
  return said(sound.replace(from, () => to));
}

describe('YAML', () => {
  it('a tab as indentation', async () => {
    expect(await spoilt('    uses: generate', '\tuses: generate')).toMatchInlineSnapshot(`
      "spec.yaml:24:1 error SPEC_SYNTAX: A tab is used as indentation
        hint: YAML indents with spaces only: replace the tab."
    `);
  });
  it('a key that stands twice', async () => {
    expect(await spoilt('    uses: generate', '    uses: generate\n    uses: generate')).toMatchInlineSnapshot(`
      "spec.yaml:25:5 error SPEC_DUPLICATE_KEY: Key "uses" stands twice in the same mapping
        hint: Keep one of the two."
    `);
  });
  it('an alias that no anchor defines', async () => {
    expect(await spoilt('data: reviews', 'data: *reviews')).toMatchInlineSnapshot(`
      "spec.yaml:22:32 error SPEC_SYNTAX: Alias *reviews names no anchor before it
        hint: Define &reviews before it; a text that begins with * stands in quotes."
    `);
  });
  it('an alias of what holds it', async () => {
    expect(await spoilt('    uses: generate', '    needs: &again [*again]\n    uses: generate')).toMatchInlineSnapshot(`
      "spec.yaml:24:19 error SPEC_SCHEMA: Item 1 of "needs" must be a string, not [null]
        hint: Give a string.
      spec.yaml:24:20 error SPEC_SYNTAX: Alias *again contains itself
        hint: What &again names can't hold *again: write this value out."
    `);
  });

  it('a merge key', async () => {
    expect(await spoilt('    with: { generator', '    <<: { needs: [] }\n    with: { generator'))
      .toMatchInlineSnapshot(`
      "spec.yaml:25:5 error SPEC_UNKNOWN_KEY: Unknown key "<<" in "synthetic"
        hint: Merge keys are not read: write the keys out."
    `);
  });
  it('a key indented too little', async () => {
    expect(await spoilt('    uses: generate', '   uses: generate')).toMatchInlineSnapshot(`
      "spec.yaml:24:10 error SPEC_SYNTAX: A second key stands where a value is expected, near "uses: generate"
        hint: Keys of one mapping begin at the same column: compare it with the lines around it."
    `);
  });
  it('a key indented too much', async () => {
    expect(await spoilt('    with: { generator', '      with: { generator')).toMatchInlineSnapshot(`
      "spec.yaml:24:11 error SPEC_SYNTAX: A second key stands where a value is expected, near "uses: generate"
        hint: Keys of one mapping begin at the same column: compare it with the lines around it."
    `);
  });
  it('a step indented too little', async () => {
    expect(await spoilt('  synthetic:', ' synthetic:')).toMatchInlineSnapshot(`
      "spec.yaml:23:1 error SPEC_SYNTAX: A key is not indented like the others, near "synthetic:"
        hint: Keys of one mapping begin at the same column: compare it with the lines around it.
      spec.yaml:26:1 error SPEC_SYNTAX: A key is not indented like the others, near "on-synthetic:"
        hint: Keys of one mapping begin at the same column: compare it with the lines around it."
    `);
  });
  it('a key without its colon', async () => {
    expect(await spoilt('  synthetic:', '  synthetic')).toMatchInlineSnapshot(`
      "spec.yaml:23:3 error SPEC_SYNTAX: A key lacks its colon, or its value begins on another line, near "synthetic"
        hint: A key and its colon stand on one line: "key: value".
      spec.yaml:24:11 error SPEC_SYNTAX: A second key stands where a value is expected, near "uses: generate"
        hint: Keys of one mapping begin at the same column: compare it with the lines around it."
    `);
  });
  it('a colon without a space', async () => {
    expect(await spoilt('count: 100', 'count:100')).toMatchInlineSnapshot(`
      "spec.yaml:25:5 error SPEC_MISSING_KEY: "with" lacks the key "count"
        hint: count: Records to keep.
      spec.yaml:25:50 error SPEC_UNKNOWN_KEY: Unknown key "count:100" in "with"
        hint: Put a space after the colon of "count"."
    `);
  });
  it('a quote that is never closed', async () => {
    expect(await spoilt('"${{ steps.generator }}", count', '"${{ steps.generator }}, count')).toMatchInlineSnapshot(`
      "spec.yaml:25:61 error SPEC_SYNTAX: A quote is opened and never closed, near "with: { generator: "\${{ steps.generator }}, count: 100 }"
        hint: Close it where the text ends.
      spec.yaml:26:3 error SPEC_SYNTAX: A { or [ above is never closed, near "on-synthetic:"
        hint: Close it with } or ], or indent what belongs to it."
    `);
  });
  it('a brace that is never closed', async () => {
    expect(await spoilt('count: 100 }', 'count: 100')).toMatchInlineSnapshot(`
      "spec.yaml:26:3 error SPEC_SYNTAX: A { or [ above is never closed, near "on-synthetic:"
        hint: Close it with } or ], or indent what belongs to it."
    `);
  });
  it('two documents in one file', async () => {
    expect(await spoilt('steps:', '---\nsteps:')).toMatchInlineSnapshot(`
      "spec.yaml:19:1 error SPEC_SYNTAX: The file holds more than one YAML document, near "---"
        hint: Keep one: remove the line "---" between them."
    `);
  });
  it('an anchor that stands for nothing', async () => {
    expect(await spoilt('data: reviews', 'data: &reviews')).toMatchInlineSnapshot(`
      "spec.yaml:22:40 error SPEC_SCHEMA: "data" must be a string, not nothing
        hint: "data": Name of a labelled dataset; its train split is read."
    `);
  });
  it('spaces that are none', async () => {
    expect(await spoilt('    uses: generate', '    uses:\u00a0generate')).toMatchInlineSnapshot(`
      "spec.yaml:24:5 error SPEC_SYNTAX: A key lacks its colon, or its value begins on another line, near "uses: generate"
        hint: A key and its colon stand on one line: "key: value"."
    `);
  });
});

describe('expressions', () => {
  it('no quotes inside braces', async () => {
    expect(await spoilt('"${{ steps.generator }}", count', '${{ steps.generator }}, count')).toMatchInlineSnapshot(`
      "spec.yaml:25:25 error SPEC_SYNTAX: An expression stands without quotes inside { } or [ ], near "with: { generator: \${{ steps.generator }}, count: 100 }"
        hint: Quote it: "\${{ matrix.AXIS }}". Plain double quotes only."
    `);
  });
  it('no dollar', async () => {
    expect(await spoilt('"${{ steps.generator }}", count', '"{{ steps.generator }}", count')).toMatchInlineSnapshot(`
      "spec.yaml:25:24 error SPEC_EXPRESSION: Malformed expression "{{ steps.generator }}"
        hint: Write \${{ matrix.AXIS }}, \${{ steps.STEP }} or \${{ steps.STEP[AXIS=VALUE] }}."
    `);
  });
  it('no dollar and no quotes', async () => {
    expect(await spoilt('"${{ steps.generator }}", count', '{{ steps.generator }}, count')).toMatchInlineSnapshot(`
      "spec.yaml:25:24 error SPEC_SYNTAX: A key must be a plain word
        hint: An expression is written "\${{ steps.STEP }}", with the dollar and in quotes."
    `);
  });
  it('one brace', async () => {
    expect(await spoilt('"${{ steps.generator }}", count', '"${ steps.generator }", count')).toMatchInlineSnapshot(`
      "spec.yaml:25:24 error SPEC_EXPRESSION: Malformed expression "\${ steps.generator }"
        hint: Write \${{ matrix.AXIS }}, \${{ steps.STEP }} or \${{ steps.STEP[AXIS=VALUE] }}."
    `);
  });
  it('a brace that is missing', async () => {
    expect(await spoilt('"${{ steps.generator }}", count', '"${{ steps.generator }", count')).toMatchInlineSnapshot(`
      "spec.yaml:25:24 error SPEC_EXPRESSION: An expression must be the whole value: "\${{ steps.generator }"
        hint: Write \${{ matrix.AXIS }}, \${{ steps.STEP }} or \${{ steps.STEP[AXIS=VALUE] }}."
    `);
  });
  it('a name without its kind', async () => {
    expect(await spoilt('"${{ matrix.epsilon }}"', '"${{ epsilon }}"')).toMatchInlineSnapshot(`
      "spec.yaml:18:3 error SPEC_UNUSED_AXIS: Nothing uses the axis "epsilon"
        hint: Use it as \${{ matrix.epsilon }} or drop it.
      spec.yaml:22:50 error SPEC_EXPRESSION: Malformed expression "\${{ epsilon }}"
        hint: Write \${{ matrix.AXIS }}, \${{ steps.STEP }} or \${{ steps.STEP[AXIS=VALUE] }}."
    `);
  });
  it('a misspelt axis', async () => {
    expect(await spoilt('matrix.epsilon }}', 'matrix.epsilom }}')).toMatchInlineSnapshot(`
      "spec.yaml:22:50 error SPEC_UNKNOWN_REFERENCE: The matrix has no axis "epsilom"
        hint: Did you mean "epsilon"?"
    `);
  });
  it('an axis that is not there', async () => {
    expect(await spoilt(', epsilon: "', ', seed: "${{ matrix.seed }}", epsilon: "')).toMatchInlineSnapshot(`
      "spec.yaml:22:47 error SPEC_UNKNOWN_REFERENCE: The matrix has no axis "seed"
        hint: Add it to "matrix": seed: [...]."
    `);
  });
  it('a misspelt step', async () => {
    expect(await spoilt('steps.generator }}', 'steps.generatr }}')).toMatchInlineSnapshot(`
      "spec.yaml:25:24 error SPEC_UNKNOWN_REFERENCE: The spec has no step "generatr"
        hint: Did you mean "generator"?"
    `);
  });
  it('a step that needs itself', async () => {
    expect(await spoilt('    uses: generate', '    needs: [synthetic]\n    uses: generate')).toMatchInlineSnapshot(`
      "spec.yaml:24:13 error SPEC_CYCLE: Steps need each other in a circle: synthetic -> synthetic
        hint: Drop one of these references."
    `);
  });
  it('a circle of inputs', async () => {
    expect(await spoilt('    uses: finetune', '    needs: [on-synthetic]\n    uses: finetune')).toMatchInlineSnapshot(`
      "spec.yaml:26:24 error SPEC_CYCLE: Steps need each other in a circle: generator -> on-synthetic -> synthetic -> generator
        hint: Drop one of these references."
    `);
  });
  it('two expressions in one value', async () => {
    expect(await spoilt('"${{ matrix.epsilon }}"', '"${{ matrix.epsilon }}${{ matrix.epsilon }}"'))
      .toMatchInlineSnapshot(`
      "spec.yaml:18:3 error SPEC_UNUSED_AXIS: Nothing uses the axis "epsilon"
        hint: Use it as \${{ matrix.epsilon }} or drop it.
      spec.yaml:22:50 error SPEC_EXPRESSION: An expression must be the whole value: "\${{ matrix.epsilon }}\${{ matrix.epsilon }}"
        hint: Write \${{ matrix.AXIS }}, \${{ steps.STEP }} or \${{ steps.STEP[AXIS=VALUE] }}."
    `);
  });
  it('arithmetic', async () => {
    expect(await spoilt('"${{ matrix.epsilon }}"', '"${{ matrix.epsilon * 2 }}"')).toMatchInlineSnapshot(`
      "spec.yaml:18:3 error SPEC_UNUSED_AXIS: Nothing uses the axis "epsilon"
        hint: Use it as \${{ matrix.epsilon }} or drop it.
      spec.yaml:22:50 error SPEC_EXPRESSION: Malformed expression "\${{ matrix.epsilon * 2 }}"
        hint: Write \${{ matrix.AXIS }}, \${{ steps.STEP }} or \${{ steps.STEP[AXIS=VALUE] }}."
    `);
  });
  it('quotes of the wrong kind', async () => {
    expect(await spoilt('"${{ matrix.epsilon }}"', '“${{ matrix.epsilon }}”')).toMatchInlineSnapshot(`
      "spec.yaml:22:52 error SPEC_SYNTAX: An expression stands without quotes inside { } or [ ], near "with: { model: base, data: reviews, epsilon: “\${{ matrix.eps"
        hint: Quote it: "\${{ matrix.AXIS }}". Plain double quotes only."
    `);
  });
  it('a step that is used without its kind', async () => {
    expect(await spoilt('train: "${{ steps.synthetic }}"', 'train: "${{ synthetic }}"')).toMatchInlineSnapshot(`
      "spec.yaml:28:20 error SPEC_EXPRESSION: Malformed expression "\${{ synthetic }}"
        hint: Write \${{ matrix.AXIS }}, \${{ steps.STEP }} or \${{ steps.STEP[AXIS=VALUE] }}."
    `);
  });
  it('an axis value that is not there', async () => {
    expect(await spoilt('train: "${{ steps.synthetic }}"', 'train: "${{ steps.synthetic[epsilon=9] }}"'))
      .toMatchInlineSnapshot(`
      "spec.yaml:28:20 error SPEC_UNKNOWN_REFERENCE: Axis "epsilon" has no value "9"
        hint: Known: "8", "inf"."
    `);
  });
});

describe('values', () => {
  it('epsilon 0', async () => {
    expect(await spoilt('epsilon: [8, .inf]', 'epsilon: [0, 8]')).toMatchInlineSnapshot(`
      "spec.yaml:18:13 error SPEC_SCHEMA: "epsilon" must be > 0: 0
        hint: Epsilon is above 0; .inf stands for no differential privacy."
    `);
  });
  it('a negative epsilon', async () => {
    expect(await spoilt('epsilon: [8, .inf]', 'epsilon: [-8]')).toMatchInlineSnapshot(`
      "spec.yaml:18:13 error SPEC_SCHEMA: "epsilon" must be > 0: -8
        hint: Epsilon is above 0; .inf stands for no differential privacy."
    `);
  });
  it('epsilon as text', async () => {
    expect(await spoilt('epsilon: [8, .inf]', 'epsilon: ["8"]')).toMatchInlineSnapshot(`
      "spec.yaml:18:13 error SPEC_SCHEMA: "epsilon" must be a number above 0 or .inf, not "8"
        hint: Write it without quotes: 8."
    `);
  });
  it('epsilon in words', async () => {
    expect(await spoilt('epsilon: [8, .inf]', 'epsilon: [infinite]')).toMatchInlineSnapshot(`
      "spec.yaml:18:13 error SPEC_SCHEMA: "epsilon" must be a number above 0 or .inf, not "infinite"
        hint: Epsilon is above 0; .inf stands for no differential privacy."
    `);
  });
  it('an axis that is no list', async () => {
    expect(await spoilt('epsilon: [8, .inf]', 'epsilon: 8')).toMatchInlineSnapshot(`
      "spec.yaml:18:12 error SPEC_SCHEMA: "epsilon" must be a list or a mapping, not 8
        hint: Write it in brackets: [8]."
    `);
  });
  it('a matrix that excludes all', async () => {
    expect(await spoilt('epsilon: [8, .inf]', 'epsilon: [8]\n  exclude: [{ epsilon: 8 }]')).toMatchInlineSnapshot(`
      "spec.yaml:19:12 error SPEC_MATRIX: "exclude" leaves no combination
        hint: Exclude less, or drop the axis."
    `);
  });
  it('a matrix that is a list', async () => {
    expect(await spoilt('matrix:\n  epsilon: [8, .inf]', 'matrix: [epsilon]')).toMatchInlineSnapshot(`
      "spec.yaml:17:9 error SPEC_SCHEMA: "matrix" must be a mapping, not ["epsilon"]
        hint: Write each entry as "key: value", without brackets and dashes.
      spec.yaml:21:50 error SPEC_UNKNOWN_REFERENCE: The matrix has no axis "epsilon"
        hint: Add it to "matrix": epsilon: [...]."
    `);
  });
  it('a negative seed', async () => {
    expect(await spoilt('count: 100', 'count: 100, seed: -1')).toMatchInlineSnapshot(`
      "spec.yaml:25:68 error SPEC_SCHEMA: "seed" must be >= 0: -1
        hint: Give 0 or more."
    `);
  });
  it('a list for one value', async () => {
    expect(await spoilt('data: reviews', 'data: [reviews]')).toMatchInlineSnapshot(`
      "spec.yaml:22:32 error SPEC_SCHEMA: "data" must be a string, not ["reviews"]
        hint: Write it without brackets: reviews."
    `);
  });
  it('one value for a list', async () => {
    expect(await spoilt('    uses: generate', '    needs: generator\n    uses: generate')).toMatchInlineSnapshot(`
      "spec.yaml:24:12 error SPEC_SCHEMA: "needs" must be a list, not "generator"
        hint: Write it in brackets: [generator]."
    `);
  });
  it('a unit of memory', async () => {
    expect(await spoilt('data: reviews', 'data: reviews, memory: 2GB')).toMatchInlineSnapshot(
      `
      "spec.yaml:22:49 error SPEC_SCHEMA: "memory" must be written like "4GiB": "2GB"
        hint: "memory": Memory that training may take, about: a number and its unit, MiB or GiB, without a space."
    `,
    );
  });
  it('a number with a comma', async () => {
    expect(await spoilt('size: 20000', 'size: 50,000')).toMatchInlineSnapshot(`
      "spec.yaml:8:25 error SPEC_UNKNOWN_KEY: Unknown key "0" in "privacy"
        hint: Numbers are written without commas: 20000.
      spec.yaml:20:3 error SPEC_PRIVACY: A batch of 1024 is more than the 50 records of dataset "reviews"
        hint: Take a smaller expected batch size."
    `);
  });
  it('delta 0', async () => {
    expect(await spoilt('size: 20000', 'size: 20000, delta: 0')).toMatchInlineSnapshot(`
      "spec.yaml:8:36 error SPEC_SCHEMA: "delta" must be > 0: 0
        hint: Give a number above 0."
    `);
  });
  it('a delta above 1 / size', async () => {
    expect(await spoilt('size: 20000', 'size: 20000, delta: 0.1')).toMatchInlineSnapshot(`
      "spec.yaml:4:3 error SPEC_PRIVACY: Delta 0.1 of dataset "reviews" is above 1 / size: publishing one record whole would keep it
        hint: Give less than 0.000050, or leave it out."
    `);
  });
  it('a budget without its unit', async () => {
    expect(await spoilt('size: 20000', 'size: 20000, budget: 8')).toMatchInlineSnapshot(`
      "spec.yaml:8:37 error SPEC_SCHEMA: "budget" must be a mapping, not 8
        hint: Its keys: epsilon."
    `);
  });
  it('epsilon 0 of a step', async () => {
    expect(await spoilt('epsilon: "${{ matrix.epsilon }}"', 'epsilon: 0')).toMatchInlineSnapshot(`
      "spec.yaml:18:3 error SPEC_UNUSED_AXIS: Nothing uses the axis "epsilon"
        hint: Use it as \${{ matrix.epsilon }} or drop it.
      spec.yaml:22:50 error SPEC_SCHEMA: "epsilon" must be > 0: 0
        hint: Epsilon is above 0; .inf stands for no differential privacy."
    `);
  });
  it('a negative epsilon of a step', async () => {
    expect(await spoilt('epsilon: "${{ matrix.epsilon }}"', 'epsilon: -1')).toMatchInlineSnapshot(`
      "spec.yaml:18:3 error SPEC_UNUSED_AXIS: Nothing uses the axis "epsilon"
        hint: Use it as \${{ matrix.epsilon }} or drop it.
      spec.yaml:22:50 error SPEC_SCHEMA: "epsilon" must be > 0: -1
        hint: Epsilon is above 0; .inf stands for no differential privacy."
    `);
  });
  it('an epsilon that is no number', async () => {
    expect(await spoilt('epsilon: [8, .inf]', 'epsilon: [.nan]')).toMatchInlineSnapshot(`
      "spec.yaml:18:13 error SPEC_SYNTAX: .nan is no usable number
        hint: Write it in digits, such as 8 or 0.5."
    `);
  });
  it('a budget of 0', async () => {
    expect(await spoilt('size: 20000', 'size: 20000, budget: { epsilon: 0 }')).toMatchInlineSnapshot(`
      "spec.yaml:8:48 error SPEC_SCHEMA: "epsilon" must be > 0: 0
        hint: Give a number above 0."
    `);
  });
  it('a budget without end', async () => {
    expect(await spoilt('size: 20000', 'size: 20000, budget: { epsilon: .inf }')).toMatchInlineSnapshot(`
      "spec.yaml:8:48 error SPEC_SCHEMA: "epsilon" must be a number, not "inf"
        hint: "epsilon": Total epsilon at \`delta\`."
    `);
  });
  it('an axis without values', async () => {
    expect(await spoilt('epsilon: [8, .inf]', 'epsilon: []')).toMatchInlineSnapshot(`
      "spec.yaml:18:12 error SPEC_SCHEMA: "epsilon" is empty
        hint: It needs at least one entry."
    `);
  });
  it('an axis with a value twice', async () => {
    expect(await spoilt('epsilon: [8, .inf]', 'epsilon: [8, 8]')).toMatchInlineSnapshot(`
      "spec.yaml:18:16 error SPEC_SCHEMA: "epsilon" holds the same value twice
        hint: Keep one of the two."
    `);
  });
  it('a combination of an axis that is not there', async () => {
    expect(await spoilt('epsilon: [8, .inf]', 'epsilon: [8, .inf]\n  exclude: [{ epsilom: 8 }]'))
      .toMatchInlineSnapshot(`
      "spec.yaml:19:15 error SPEC_UNKNOWN_REFERENCE: "exclude" names an unknown axis "epsilom"
        hint: Did you mean "epsilon"?"
    `);
  });
  it('a combination of a value that is not there', async () => {
    expect(await spoilt('epsilon: [8, .inf]', 'epsilon: [8, .inf]\n  exclude: [{ epsilon: 9 }]'))
      .toMatchInlineSnapshot(`
      "spec.yaml:19:24 error SPEC_UNKNOWN_REFERENCE: Axis "epsilon" has no value "9"
        hint: Known: "8", "inf"."
    `);
  });
  it('a size with a unit', async () => {
    expect(await spoilt('size: 20000', 'size: 20k')).toMatchInlineSnapshot(`
      "spec.yaml:8:22 error SPEC_SCHEMA: "size" must be a whole number of at least 2 or "counted", not "20k"
        hint: "size": Public number of training records; sampling probability and delta come from it."
    `);
  });
  it('a size of 0', async () => {
    expect(await spoilt('size: 20000', 'size: 0')).toMatchInlineSnapshot(`
      "spec.yaml:8:22 error SPEC_SCHEMA: "size" must be >= 2: 0
        hint: Give 2 or more."
    `);
  });
  it('a number of records as text', async () => {
    expect(await spoilt('count: 100', 'count: "100"')).toMatchInlineSnapshot(`
      "spec.yaml:25:57 error SPEC_SCHEMA: "count" must be a whole number of at least 1, not "100"
        hint: Write it without quotes: 100."
    `);
  });
  it('a broken number of records', async () => {
    expect(await spoilt('count: 100', 'count: 99.5')).toMatchInlineSnapshot(`
      "spec.yaml:25:57 error SPEC_SCHEMA: "count" must be a whole number of at least 1, not 99.5
        hint: "count": Records to keep."
    `);
  });
  it('no records', async () => {
    expect(await spoilt('count: 100', 'count: 0')).toMatchInlineSnapshot(`
      "spec.yaml:25:57 error SPEC_SCHEMA: "count" must be >= 1: 0
        hint: Give 1 or more."
    `);
  });
  it('a percentage for a share', async () => {
    expect(await spoilt('count: 100', 'count: 100, topP: 90')).toMatchInlineSnapshot(`
      "spec.yaml:25:68 error SPEC_SCHEMA: "topP" must be <= 1: 90
        hint: Give 1 or less."
    `);
  });
  it('a temperature of 0', async () => {
    expect(await spoilt('count: 100', 'count: 100, temperature: 0')).toMatchInlineSnapshot(`
      "spec.yaml:25:75 error SPEC_SCHEMA: "temperature" must be > 0: 0
        hint: Give a number above 0."
    `);
  });
  it('a word for a number', async () => {
    expect(await spoilt('data: reviews,', 'data: reviews, steps: many,')).toMatchInlineSnapshot(`
      "spec.yaml:22:48 error SPEC_SCHEMA: "steps" must be a whole number of at least 1, not "many"
        hint: "steps": Optimiser steps; each draws a Poisson batch and adds noise once."
    `);
  });
  it('memory without its unit', async () => {
    expect(await spoilt('data: reviews', 'data: reviews, memory: 4')).toMatchInlineSnapshot(`
      "spec.yaml:22:49 error SPEC_SCHEMA: "memory" must be a string, not 4
        hint: "memory": Memory that training may take, about: a number and its unit, MiB or GiB, without a space."
    `);
  });
});

describe('names and files', () => {
  it('a misspelt parameter', async () => {
    expect(await spoilt('count: 100', 'cuont: 100')).toMatchInlineSnapshot(`
      "spec.yaml:25:50 error SPEC_UNKNOWN_KEY: Unknown key "cuont" in "with"
        hint: Did you mean "count"?"
    `);
  });
  it('a parameter of another kind', async () => {
    expect(await spoilt('count: 100', 'count: 100, epsilon: 8')).toMatchInlineSnapshot(`
      "spec.yaml:25:62 error SPEC_UNKNOWN_KEY: Unknown key "epsilon" in "with"
        hint: Known: "generator", "count", "temperature", "topK", "topP", "repetitionPenalty", "banned", "maxTokens", "seed"."
    `);
  });
  it('a misspelt sensitivity', async () => {
    expect(await spoilt('sensitivity: benchmark', 'sensitivity: benchmrk')).toMatchInlineSnapshot(`
      "spec.yaml:7:18 error SPEC_SCHEMA: "sensitivity" can't be "benchmrk"
        hint: Did you mean "benchmark"?"
    `);
  });
  it('a step without a kind', async () => {
    expect(await spoilt('    uses: generate\n', '')).toMatchInlineSnapshot(`
      "spec.yaml:23:3 error SPEC_MISSING_KEY: "synthetic" lacks the key "uses"
        hint: uses: the kind of the step, one of pretrain, decontaminate, finetune, generate, train-classifier, measure, audit, compare."
    `);
  });
  it('a data file for a dataset', async () => {
    expect(await spoilt('test: reviews }', 'test: test.jsonl }')).toMatchInlineSnapshot(`
      "spec.yaml:28:52 error SPEC_UNKNOWN_REFERENCE: The spec has no dataset "test.jsonl"
        hint: It looks like a path. Declare it, datasets: { NAME: { files: ... } }, and write NAME here."
    `);
  });
  it('a folder for a model', async () => {
    expect(await spoilt('model: base', 'model: ./model')).toMatchInlineSnapshot(`
      "spec.yaml:22:20 error SPEC_UNKNOWN_REFERENCE: The spec has no model "./model"
        hint: It looks like a path. Declare it, models: { NAME: { path: ./model } }, and write NAME here."
    `);
  });
  it('a data file that is not there', async () => {
    expect(await spoilt('train: train.jsonl', 'train: tarin.jsonl')).toMatchInlineSnapshot(`
      "spec.yaml:5:21 error DATA_FILE_MISSING: Data file tarin.jsonl does not exist or cannot be read
        hint: Paths in a spec are relative to the spec file; check the path and its permissions."
    `);
  });
  it('a model folder that is not there', async () => {
    expect(await spoilt('path: model', 'path: modle')).toMatchInlineSnapshot(`
      "spec.yaml:15:17 error MODEL_MISSING: Model modle does not exist or cannot be read
        hint: Paths in a spec are relative to the spec file."
    `);
  });
  it('a column for the classes', async () => {
    expect(await spoilt('label: { column: label, values: [neg, pos] }', 'label: label')).toMatchInlineSnapshot(`
      "spec.yaml:6:12 error SPEC_SCHEMA: "label" must be a mapping, not "label"
        hint: Its keys: column, values."
    `);
  });
  it('no class names', async () => {
    expect(await spoilt('label: { column: label, values: [neg, pos] }', 'label: { column: label }'))
      .toMatchInlineSnapshot(`
      "spec.yaml:6:5 error SPEC_MISSING_KEY: "label" lacks the key "values"
        hint: values: Names of the classes, in order. They come from here, never from the data."
    `);
  });
  it('a class that the data do not have', async () => {
    expect(await spoilt('values: [neg, pos]', 'values: [neg, bad]')).toMatchInlineSnapshot(`
      "train.jsonl:2:1 error DATA_RECORD_INVALID: Record at train.jsonl, line 2 has "pos" in label column "label"
        hint: label.values knows "neg", "bad".
      test.jsonl:2:1 error DATA_RECORD_INVALID: Record at test.jsonl, line 2 has "pos" in label column "label"
        hint: label.values knows "neg", "bad".
      train.jsonl:4:1 error DATA_RECORD_INVALID: Record at train.jsonl, line 4 has "pos" in label column "label"
        hint: label.values knows "neg", "bad"."
    `);
  });
  it('an empty file', async () => {
    expect(await said('')).toMatchInlineSnapshot(`
      "spec.yaml:1:1 error SPEC_SCHEMA: The spec must be a mapping, not nothing
        hint: What belongs to it stands below it, indented."
    `);
  });
});
