import { afterAll, describe, expect, it } from 'vitest';

import { openWorkspace, preamble } from './workspace.ts';

const workspace = openWorkspace();
afterAll(() => workspace.remove());

/** A sound spec that the tests spoil. */
const sound = `${preamble}
matrix:
  epsilon: [8, .inf]
  seed: [1, 2]
steps:
  generator:
    uses: finetune
    with: { model: base, data: reviews, epsilon: "\${{ matrix.epsilon }}", seed: "\${{ matrix.seed }}" }
  synthetic:
    uses: generate
    with: { generator: "\${{ steps.generator }}", count: 100 }
  on-synthetic:
    uses: train-classifier
    with: { train: "\${{ steps.synthetic }}", test: reviews }
  on-real:
    uses: train-classifier
    with: { train: reviews, test: reviews, epsilon: "\${{ matrix.epsilon }}", seed: "\${{ matrix.seed }}" }
  comparison:
    uses: compare
    with:
      arms: { real: "\${{ steps.on-real }}", synthetic: "\${{ steps.on-synthetic }}" }
      over: [seed]
profiles:
  quick: { matrix.seed: [1] }
`;

/** Replaces text of the sound spec that must be there. */
function spoil(from: string, to: string): string {
  if (!sound.includes(from)) throw new Error(`The spec under test has no ${from}`);
  return sound.replace(from, to);
}

it('finds nothing wrong with a sound spec', async () => {
  expect(await workspace.faults(sound)).toEqual([]);
});

describe('a spec with ten planted faults', () => {
  const spec = `version: 1
name: ten
datasets:
  reviews:
    files: { train: train.jsonl, test: absent.jsonl }
    text: txt
    label: { column: label, values: [neg, pos] }
    sensitivity: benchmark
    privacy: { size: 20000 }
models:
  base: { path: model }
matrix:
  epsilon: [0, 8]
  seed: [1, 2]
steps:
  generator:
    uses: finetune
    with: { model: bas, data: reviews, epsilon: "\${{ matrix.epsilon }}", stepz: 9, seed: "\${{ matrix.sed }}" }
  a:
    uses: train-clasifier
    with: { train: reviews, test: reviews, epsilon: 8 }
  b:
    uses: finetune
    needs: [c]
    with: { model: base, data: reviews, epsilon: 8, batch: many }
  c:
    uses: finetune
    needs: [b]
    with: { model: base, data: reviews, epsilon: 8, seed: "\${{ matrix.seed }}" }
    with: {}
`;

  it('reports all ten, each at its place', async () => {
    expect(await workspace.faults(spec)).toMatchInlineSnapshot(`
      [
        "5:40 DATA_FILE_MISSING Data file /absent.jsonl does not exist or cannot be read",
        "6:11 DATA_COLUMN_MISSING Data file /train.jsonl has no column "txt"",
        "13:13 SPEC_SCHEMA "epsilon" must be > 0: 0",
        "18:20 SPEC_UNKNOWN_REFERENCE The spec has no model "bas"",
        "18:74 SPEC_UNKNOWN_KEY Unknown key "stepz" in "with"",
        "18:90 SPEC_UNKNOWN_REFERENCE The matrix has no axis "sed"",
        "20:11 SPEC_SCHEMA Unknown step kind "train-clasifier"",
        "25:60 SPEC_SCHEMA "batch" must be a whole number of at least 1, not "many"",
        "28:13 SPEC_CYCLE Steps need each other in a circle: b -> c -> b",
        "30:5 SPEC_DUPLICATE_KEY Key "with" stands twice in the same mapping",
      ]
    `);
  });

  it('reports them also when a tab is among them', async () => {
    const without = await workspace.faults(spec);
    const tabbed = await workspace.faults(spec.replace('    needs: [c]', '\tneeds: [c]'));
    expect(tabbed).toEqual([...without, '24:1 SPEC_SYNTAX A tab is used as indentation'].sort(byPlace));
  });
});

const byPlace = (a: string, b: string): number => {
  const [[lineA, columnA], [lineB, columnB]] = [a, b].map((text) => text.split(' ')[0]!.split(':').map(Number)) as [
    [number, number],
    [number, number],
  ];
  return lineA - lineB || columnA - columnB;
};

interface Case {
  what: string;
  spec: string;
  /** Text of the spec in which § stands before the place of the fault. */
  at: string;
  fault: string;
}

const real = 'epsilon: "${{ matrix.epsilon }}", seed: "${{ matrix.seed }}" }\n  comparison';

const cases: Case[] = [
  {
    what: 'an unknown top-level key',
    spec: spoil('version: 1', 'version: 1\nmetrix: {}'),
    at: '§metrix',
    fault: 'SPEC_UNKNOWN_KEY Unknown key "metrix" at the top',
  },
  {
    what: 'a wrong version',
    spec: spoil('version: 1', 'version: 2'),
    at: 'version: §2',
    fault: 'SPEC_SCHEMA "version" must be 1, not 2',
  },
  {
    what: 'a wrong type',
    spec: spoil('count: 100', 'count: [1]'),
    at: 'count: §[1]',
    fault: 'SPEC_SCHEMA "count" must be a whole number of at least 1, not [1]',
  },
  {
    what: 'a missing parameter',
    spec: spoil(', count: 100', ''),
    at: '§with: { generator: "${{ steps.generator }}" }',
    fault: 'SPEC_MISSING_KEY "with" lacks the key "count"',
  },
  {
    what: 'a misspelt parameter',
    spec: spoil('count: 100', 'cuont: 100'),
    at: '§cuont',
    fault: 'SPEC_UNKNOWN_KEY Unknown key "cuont" in "with"',
  },
  {
    what: 'a misspelt part',
    spec: spoil('matrix:', 'matrx:'),
    at: '§matrx',
    fault: 'SPEC_UNKNOWN_KEY Unknown key "matrx" at the top',
  },
  {
    what: 'an unknown step kind',
    spec: spoil('uses: finetune', 'uses: finetun'),
    at: 'uses: §finetun',
    fault: 'SPEC_SCHEMA Unknown step kind "finetun"',
  },
  {
    what: 'a misspelt key of a step',
    spec: spoil(
      '    with: { train: reviews, test: reviews, epsilon',
      '    wiht: { train: reviews, test: reviews, epsilon',
    ),
    at: '§wiht',
    fault: 'SPEC_UNKNOWN_KEY Unknown key "wiht" in "on-real"',
  },
  {
    what: 'an unknown optimiser',
    spec: spoil('model: base, data', 'model: base, optimizer: { kind: lion }, data'),
    at: 'kind: §lion',
    fault: 'SPEC_SCHEMA Unknown kind "lion"',
  },
  {
    what: 'a divisor that is neither',
    spec: spoil('model: base, data', 'model: base, lossDivisor: words, data'),
    at: 'lossDivisor: §words',
    fault: 'SPEC_SCHEMA "lossDivisor" must be "tokens" or a number above 0, not "words"',
  },
  {
    what: 'an objective that lacks its words',
    spec: spoil('model: base, data', 'model: base, objective: full-lm, data'),
    at: 'objective: §full-lm',
    fault: 'SPEC_SCHEMA "full-lm" takes the loss on the words of the class, which class-bias has none of',
  },
  {
    what: 'an empty axis',
    spec: spoil('seed: [1, 2]', 'seed: []'),
    at: 'seed: §[]',
    fault: 'SPEC_SCHEMA "seed" is empty',
  },
  {
    what: 'a repeated axis value',
    spec: spoil('seed: [1, 2]', 'seed: [1, 1]'),
    at: 'seed: [1, §1]',
    fault: 'SPEC_SCHEMA "seed" holds the same value twice',
  },
  {
    what: 'an unlabelled object on an axis',
    spec: spoil('seed: [1, 2]', 'seed: [{ a: 1 }]'),
    at: 'seed: [§{ a',
    fault: 'SPEC_SCHEMA Item 1 of "seed" must be a string or a number or true or false, not {"a":1}',
  },
  {
    what: 'an unused axis',
    spec: spoil('  seed: [1, 2]', '  seed: [1, 2]\n  extra: [1]'),
    at: '§extra',
    fault: 'SPEC_UNUSED_AXIS Nothing uses the axis "extra"',
  },
  {
    what: 'an axis that over gathers in vain',
    spec: spoil('over: [seed]', 'over: [seed, words]')
      .replace('  seed: [1, 2]', '  seed: [1, 2]\n  words: [40, 48]')
      .replace(
        'steps:',
        'steps:\n  spare: { uses: train-classifier, with: { train: other, test: other, epsilon: 8, words: "${{ matrix.words }}" } }',
      ),
    at: 'over: [seed, §words]',
    fault: 'SPEC_UNUSED_AXIS No arm has the axis "words"',
  },
  {
    what: 'an unknown axis',
    spec: spoil(real, real.replace('matrix.seed', 'matrix.seeds')),
    at: '§"${{ matrix.seeds }}"',
    fault: 'SPEC_UNKNOWN_REFERENCE The matrix has no axis "seeds"',
  },
  {
    what: 'an unknown step',
    spec: spoil('steps.generator }}', 'steps.generater }}'),
    at: '§"${{ steps.generater',
    fault: 'SPEC_UNKNOWN_REFERENCE The spec has no step "generater"',
  },
  {
    what: 'an unknown dataset',
    spec: spoil('test: reviews }\n  on-real', 'test: revews }\n  on-real'),
    at: '§revews',
    fault: 'SPEC_UNKNOWN_REFERENCE The spec has no dataset "revews"',
  },
  {
    what: 'a step of the wrong kind',
    spec: spoil('train: "${{ steps.synthetic }}"', 'train: "${{ steps.generator }}"'),
    at: 'train: §"${{ steps.generator }}"',
    fault: 'SPEC_REFERENCE_KIND Step "generator" is a finetune',
  },
  {
    what: 'a model where a dataset is needed',
    spec: spoil('data: reviews', 'data: base'),
    at: 'data: §base',
    fault: 'SPEC_REFERENCE_KIND "base" is a model; a dataset is needed here',
  },
  {
    what: 'a step named without an expression',
    spec: spoil('"${{ steps.generator }}", count', 'generator, count'),
    at: 'generator: §generator, count',
    fault: 'SPEC_EXPRESSION "generator" is a step; a step is named by an expression',
  },
  {
    what: 'a malformed expression',
    spec: spoil('${{ steps.generator }}', '${{ steps..generator }}'),
    at: '§"${{ steps..generator',
    fault: 'SPEC_EXPRESSION Malformed expression "${{ steps..generator }}"',
  },
  {
    what: 'an expression inside other text',
    spec: spoil('${{ steps.generator }}', 'a ${{ steps.generator }}'),
    at: '§"a ${{',
    fault: 'SPEC_EXPRESSION An expression must be the whole value: "a ${{ steps.generator }}"',
  },
  {
    what: 'a pin of an unknown value',
    spec: spoil('real: "${{ steps.on-real }}"', 'real: "${{ steps.on-real[epsilon=9] }}"'),
    at: '§"${{ steps.on-real[epsilon=9] }}"',
    fault: 'SPEC_UNKNOWN_REFERENCE Axis "epsilon" has no value "9"',
  },
  {
    what: 'a pin of an axis that the step lacks',
    spec: spoil('train: "${{ steps.synthetic }}"', 'train: "${{ steps.synthetic[words=40] }}"')
      .replace('  seed: [1, 2]', '  seed: [1, 2]\n  words: [40]')
      .replace('train: reviews, test: reviews,', 'train: reviews, test: reviews, words: "${{ matrix.words }}",'),
    at: '§"${{ steps.synthetic[words=40] }}"',
    fault: 'SPEC_UNKNOWN_REFERENCE Step "synthetic" does not use axis "words"',
  },
  {
    what: 'a need that does not exist',
    spec: spoil('  on-real:\n', '  on-real:\n    needs: [nothing]\n'),
    at: '[§nothing]',
    fault: 'SPEC_UNKNOWN_REFERENCE The spec has no step "nothing"',
  },
  {
    what: 'a model folder that is not there',
    spec: spoil('path: model', 'path: modle'),
    at: 'path: §modle',
    fault: 'MODEL_MISSING Model /modle does not exist or cannot be read',
  },
  {
    what: 'a data file that is not there',
    spec: spoil('train: train.jsonl', 'train: tarin.jsonl'),
    at: 'train: §tarin.jsonl',
    fault: 'DATA_FILE_MISSING Data file /tarin.jsonl does not exist or cannot be read',
  },
  {
    what: 'a column that is not there',
    spec: spoil('column: label', 'column: lable'),
    at: 'column: §lable',
    fault: 'DATA_COLUMN_MISSING Data file /train.jsonl has no column "lable"',
  },
  {
    what: 'an extension of no known format',
    spec: spoil('train: train.jsonl', 'train: train.dat'),
    at: 'train: §train.dat',
    fault: 'SPEC_SCHEMA The extension of "train.dat" tells no format',
  },
  {
    what: 'a batch larger than the dataset',
    spec: spoil('data: reviews,', 'data: reviews, batch: 30000,'),
    at: 'batch: §30000',
    fault: 'SPEC_PRIVACY A batch of 30000 is more than the 20000 records of dataset "reviews"',
  },
  {
    what: 'classes that differ',
    spec: spoil('test: reviews }\n  on-real', 'test: other }\n  on-real').replace(
      'label: { values: [neg, pos] }',
      'label: { values: [neg, pos, odd] }',
    ),
    at: 'test: §other',
    fault: 'SPEC_REFERENCE_KIND The training data have the classes [neg, pos], dataset "other" has [neg, pos, odd]',
  },
  {
    what: 'arms at unequal epsilon',
    spec: spoil('real: "${{ steps.on-real }}"', 'real: "${{ steps.on-real[epsilon=inf] }}"'),
    at: 'arms: §{ real',
    fault:
      'SPEC_COMPARE Arms at unequal epsilon do not compare: real (on-real[epsilon=inf,seed=1]) at epsilon inf, synthetic (on-synthetic[epsilon=8,seed=1]) at epsilon 8',
  },
  {
    what: 'epsilon gathered over',
    spec: spoil('over: [seed]', 'over: [seed, epsilon]'),
    at: 'arms: §{ real',
    fault:
      'SPEC_COMPARE Arms at unequal epsilon do not compare: real (on-real[epsilon=8,seed=1]) at epsilon 8, real (on-real[epsilon=inf,seed=1]) at epsilon inf',
  },
  {
    what: 'a ceiling that varies more than the arms',
    spec: spoil('      over: [seed]', '      over: [seed]\n      ceiling: "${{ steps.on-real }}"')
      .replace('arms: { real: "${{ steps.on-real }}",', 'arms: {')
      .replace('"${{ steps.on-synthetic }}" }', '"${{ steps.on-synthetic[epsilon=8] }}" }'),
    at: 'ceiling: §"${{',
    fault: 'SPEC_COMPARE The ceiling varies with epsilon, which no arm does',
  },
  {
    what: 'a matrix that excludes everything',
    spec: spoil('  seed: [1, 2]', '  seed: [1, 2]\n  exclude: [{ seed: 1 }, { seed: 2 }]'),
    at: 'exclude: §[',
    fault: 'SPEC_MATRIX "exclude" leaves no combination',
  },
  {
    what: 'a pin that is excluded',
    spec: spoil('  seed: [1, 2]', '  seed: [1, 2]\n  exclude: [{ seed: 2, epsilon: 8 }]')
      .replace(
        '{ real: "${{ steps.on-real }}", synthetic: "${{ steps.on-synthetic }}" }',
        '{ real: "${{ steps.on-real[epsilon=8] }}" }',
      )
      .replace('over: [seed]', 'over: []'),
    at: 'real: §"${{ steps.on-real[epsilon=8] }}"',
    fault: 'SPEC_MATRIX "arms.real" of comparison needs on-real[epsilon=8,seed=2], which is excluded',
  },
  {
    what: 'an unknown value in exclude',
    spec: spoil('  seed: [1, 2]', '  seed: [1, 2]\n  exclude: [{ seed: 3 }]'),
    at: '{ seed: §3 }',
    fault: 'SPEC_UNKNOWN_REFERENCE Axis "seed" has no value "3"',
  },
  {
    what: 'a profile of an unknown axis',
    spec: spoil('matrix.seed: [1]', 'matrix.sed: [1]'),
    at: '§matrix.sed',
    fault: 'SPEC_UNKNOWN_REFERENCE Profile path "matrix.sed": no axis "sed"',
  },
  {
    what: 'an unquoted expression in braces',
    spec: spoil('"${{ steps.generator }}", count', '${{ steps.generator }}, count'),
    at: 'generator: $§{{ steps.generator }}',
    fault:
      'SPEC_SYNTAX An expression stands without quotes inside { } or [ ], near "with: { generator: ${{ steps.generator }}, count: 100 }"',
  },
  {
    what: 'an alias without anchor',
    spec: spoil('data: reviews', 'data: *reviews'),
    at: 'data: §*reviews',
    fault: 'SPEC_SYNTAX Alias *reviews names no anchor before it',
  },
  {
    what: 'a number that is none',
    spec: spoil('epsilon: [8, .inf]', 'epsilon: [8, .nan]'),
    at: '§.nan',
    fault: 'SPEC_SYNTAX .nan is no usable number',
  },
  {
    what: 'a negative epsilon',
    spec: spoil('epsilon: [8, .inf]', 'epsilon: [-8]'),
    at: 'epsilon: [§-8]',
    fault: 'SPEC_SCHEMA "epsilon" must be > 0: -8',
  },
];

/** `line:column` of the place that § marks. */
function placeOf(spec: string, marked: string): string {
  const start = spec.indexOf(marked.replace('§', ''));
  if (start < 0) throw new Error(`The spec lacks ${marked}`);
  const before = spec.slice(0, start + marked.indexOf('§')).split('\n');
  return `${before.length}:${before.at(-1)!.length + 1}`;
}

describe('each fault is reported at its place, and alone', () => {
  it.each(cases)('$what', async ({ spec, at, fault }) => {
    expect(await workspace.faults(spec)).toEqual([`${placeOf(spec, at)} ${fault}`]);
  });

  it('says what was meant', async () => {
    const { compile } = await import('../../compiler/index.ts');
    const { offlineHost } = await import('../../cli/compile-host.ts');
    const file = workspace.write('typo.yaml', sound.replace('uses: generate', 'uses: genrate'));
    await expect(compile({ file }, offlineHost())).rejects.toMatchObject({
      faults: [{ code: 'SPEC_SCHEMA', message: 'Unknown step kind "genrate"', hint: 'Did you mean "generate"?' }],
    });
  });

  it('of several profiles the unknown one', async () => {
    expect(await workspace.faults(sound, 'qick')).toEqual([
      '39:3 SPEC_UNKNOWN_REFERENCE The spec has no profile "qick"',
    ]);
  });
});

describe('a circle of steps', () => {
  it('is reported once, with its path', async () => {
    const spec = `${preamble}
steps:
  a: { uses: finetune, needs: [c], with: { model: base, data: reviews, epsilon: 8 } }
  b: { uses: finetune, needs: [a], with: { model: base, data: reviews, epsilon: 8 } }
  c: { uses: finetune, needs: [b], with: { model: base, data: reviews, epsilon: 8 } }
  after: { uses: generate, with: { generator: "\${{ steps.c }}", count: 1 } }
`;
    expect(await workspace.faults(spec)).toEqual([
      '19:32 SPEC_CYCLE Steps need each other in a circle: a -> c -> b -> a',
    ]);
  });
});

it('survives a document that its aliases blow up', async () => {
  const levels = Array.from(
    { length: 12 },
    (_, level) =>
      `x${level}: &x${level} [${Array(9)
        .fill(level === 0 ? '1' : `*x${level - 1}`)
        .join(', ')}]`,
  );
  const faults = await workspace.faults(levels.join('\n'));
  expect(faults.some((fault) => fault.includes('Aliases make the document too large'))).toBe(true);
});
