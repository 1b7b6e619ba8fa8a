/** @file The spec that `epsilonflow init` writes. */

export interface InitChoices {
  name: string;
  /** From the spec's folder, as the spec says them. */
  schema: string;
  train: string;
  test: string;
  model: string;
  text: string;
  label: string;
  values: readonly string[];
  /** `benchmark`: public data that stand in for private ones. */
  sensitivity: 'private' | 'benchmark';
}

/** A scalar of YAML: JSON's strings are some. */
const scalar = (text: string): string =>
  /^[\w./-]+$/.test(text) && Number.isNaN(Number(text)) ? text : JSON.stringify(text);

const list = (values: readonly string[]): string => `[${values.map(scalar).join(', ')}]`;

const modelSource = (model: string): string =>
  model.startsWith('hub:') ? `{ hub: ${JSON.stringify(model.slice(4).trim())} }` : `{ path: ${scalar(model)} }`;

const privacyOf = ({ sensitivity }: InitChoices): string =>
  sensitivity === 'private'
    ? `    # private: of the rows nothing leaves but through mechanisms that are charged to the budget. Once spent, it is spent.
    sensitivity: private
    # size: counted treats the number of records as public and says so; give a number to hide it.
    privacy: { unit: record, size: counted, budget: { epsilon: 10 } }`
    : `    # benchmark: public data that stand in for private ones. Your own are private, which is the default.
    sensitivity: benchmark
    privacy: { unit: record, size: counted }`;

const epsilons = ({ sensitivity }: InitChoices): string => (sensitivity === 'private' ? '[4]' : '[8, .inf]');

const ceiling = ({ sensitivity }: InitChoices): string =>
  sensitivity === 'private' ? '' : '\n      ceiling: ${{ steps.on-real[epsilon=inf] }}';

/** A spec that fine-tunes with DP, samples a labelled synthetic set, and compares what can be learned from it. */
export const initialSpec = (choices: InitChoices): string => `# yaml-language-server: $schema=${choices.schema}
version: 1
name: ${choices.name}
description: Can a classifier learn from a differentially private synthetic copy of this text in place of the text?

datasets:
  ${choices.name}:
    # csv, tsv, jsonl or parquet, also .gz and .br; paths are from this file.
    files: { train: ${scalar(choices.train)}, test: ${scalar(choices.test)} }
    text: ${scalar(choices.text)}
    label: { column: ${scalar(choices.label)}, values: ${list(choices.values)} }
${privacyOf(choices)}

models:
  # A folder, a GGUF file, or { hub: org/name@revision }. It must not have seen the private text.
  base: ${modelSource(choices.model)}

matrix:
  epsilon: ${epsilons(choices)}
  # Three seeds show how much of a difference is chance; each seed of a private dataset is charged.
  seed: [1]

steps:
  generator:
    uses: finetune
    with:
      model: base
      data: ${choices.name}
      epsilon: \${{ matrix.epsilon }}
      method: { kind: lora, rank: 8, alpha: 16, lr: 5e-3 }
      conditioning: class-bias
      steps: 50
      batch: 256
      clip: 0.5
      seed: \${{ matrix.seed }}
  synthetic:
    uses: generate
    with: { generator: '\${{ steps.generator }}', count: 4000, temperature: 0.8, seed: '\${{ matrix.seed }}' }
  on-synthetic:
    uses: train-classifier
    with: { train: '\${{ steps.synthetic }}', test: ${choices.name}, seed: '\${{ matrix.seed }}' }
  on-real:
    uses: train-classifier
    with:
      train: ${choices.name}
      test: ${choices.name}
      epsilon: \${{ matrix.epsilon }}
      dp: { steps: 60, batch: 512 }
      seed: \${{ matrix.seed }}
  comparison:
    uses: compare
    with:
      arms: { real-dp: '\${{ steps.on-real }}', synthetic: '\${{ steps.on-synthetic }}' }${ceiling(choices)}
      over: [seed]

profiles:
  # Seconds in place of minutes: shows that everything works, not what the method reaches.
  small:
    steps.generator.steps: 4
    steps.generator.batch: 64
    steps.synthetic.count: 200
    steps.on-real.dp: { steps: 10, batch: 64 }
`;
