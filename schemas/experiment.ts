/** @file Types of a spec. Made from experiment.schema.json by schemas/generate.ts: change that. */

/**
 * Values of an axis: a list, or a mapping from a label to any value; labels are used in names.
 */
export type Axis =
  | [string | number | boolean, ...(string | number | boolean)[]]
  | {
      [k: string]: unknown;
    };
/**
 * One step of the experiment; it runs once for each distinct combination of the axes that it uses, directly or through its inputs.
 */
export type Step =
  | PretrainStep
  | DecontaminateStep
  | FinetuneStep
  | GenerateStep
  | TrainClassifierStep
  | MeasureStep
  | AuditStep
  | CompareStep;
/**
 * `${{ matrix.AXIS }}`, `${{ steps.STEP }}` or `${{ steps.STEP[AXIS=VALUE] }}`; it is the whole value.
 */
export type Expression = string;
/**
 * How a generator is tuned; `kind` says which method.
 */
export type Method = LoraMethod | PromptMethod | FullMethod;
/**
 * How noised gradients change what is trained; `kind` says which optimiser.
 */
export type Optimizer = Adam | AdamW | Sgd;
/**
 * Inputs and parameters of the kind.
 */
export type TrainClassifierWith = {
  /**
   * `word-cnn`: word-level CNN over hashed words, from scratch. `linear`: logistic regression on hashed n-grams. `transformer`: a fine-tuned decoder or encoder, `model`.
   */
  family?: ('word-cnn' | 'linear' | 'transformer') | Expression;
};

/**
 * A declarative experiment on private text: datasets, models, a matrix of axes and the steps that use them.
 */
export interface Experiment {
  /**
   * Version of this format.
   */
  version: 1;
  /**
   * Name of the experiment; runs are called NAME/NUMBER.
   */
  name: string;
  /**
   * What the experiment is for, in words.
   */
  description?: string;
  /**
   * Name -> dataset.
   */
  datasets?: {
    [k: string]: Dataset;
  };
  /**
   * Name -> base model.
   */
  models?: {
    [k: string]: Model;
  };
  matrix?: Matrix;
  /**
   * Name -> step.
   */
  steps: {
    [k: string]: Step;
  };
  /**
   * `continue`: a failed instance fails only what depends on it. `fail-fast`: the first failure ends the run.
   */
  failure?: 'continue' | 'fail-fast';
  /**
   * Whose steps go first where several experiments wait for the same workers: 1 before all others, 5 after them. No result depends on it.
   */
  priority?: number;
  limits?: Limits;
  /**
   * Rules of the privacy invariant that this experiment sets aside; each is recorded in plan, ledger and report.
   */
  waive?: Waiver[];
  /**
   * Name -> overrides, applied by `--profile NAME`: a dotted path -> the new value, such as `matrix.seed` or `steps.STEP.PARAMETER`.
   */
  profiles?: {
    [k: string]: Profile;
  };
}
/**
 * Text records in files.
 */
export interface Dataset {
  /**
   * Files of the splits, relative to the spec. Format by extension (.jsonl, .json, .csv, .tsv, .parquet, .txt), compression by a further .gz or .br.
   */
  files: {
    /**
     * Records that models train on.
     */
    train?: string;
    /**
     * Records for choosing settings.
     */
    validation?: string;
    /**
     * Records for evaluation only.
     */
    test?: string;
  };
  /**
   * Format of the files where the extension does not tell it. `jsonl`: one object a line. `json`: an array of objects. `csv`, `tsv`: columns named in the first line, with commas or tabs between. `parquet`: Apache Parquet. `txt`: one text a line, without labels.
   */
  format?: 'jsonl' | 'json' | 'csv' | 'tsv' | 'parquet' | 'txt';
  /**
   * Column that holds the text.
   */
  text?: string;
  /**
   * The class of a record. Without it the dataset has no classes.
   */
  label?: {
    /**
     * Column that holds the class.
     */
    column?: string;
    /**
     * Names of the classes, in order. They come from here, never from the data.
     *
     * @minItems 2
     */
    values: [string | number | boolean, string | number | boolean, ...(string | number | boolean)[]];
  };
  /**
   * `private`: what is computed from it stays in the private store unless a charged mechanism made it DP. `benchmark`: public data standing in for private; spending is recorded and metrics may leave. `public`: free.
   */
  sensitivity?: 'private' | 'benchmark' | 'public';
  privacy?: DatasetPrivacy;
}
/**
 * Unit, size and budget of privacy accounting. Data that are not public need it.
 */
export interface DatasetPrivacy {
  /**
   * What one unit of privacy is: one record added or removed.
   */
  unit?: 'record';
  /**
   * Public number of training records; sampling probability and delta come from it. `counted` counts the file and treats the count as public. Needed for a private dataset; `counted` is the default of a benchmark.
   */
  size?: number | 'counted';
  /**
   * Probability that the guarantee fails. Default: 1 / (size ln size).
   */
  delta?: number;
  /**
   * Most that all experiments together may spend on the dataset. Needed for a private dataset; without it a benchmark's spending is only recorded.
   */
  budget?: {
    /**
     * Total epsilon at `delta`.
     */
    epsilon: number;
  };
  /**
   * Epsilon of all experiments together above which a run waits, before it reserves or starts anything, until someone approves it with `epsilonflow approve`. It refuses nothing. Without it: none waits.
   */
  'soft-budget'?: number;
}
/**
 * A base model, at one of these places.
 */
export interface Model {
  /**
   * Folder in Hugging Face layout (config.json, model.safetensors in one or several files, tokenizer.json), or a checkpoint of llama2.c (.bin) with its tokenizer.bin beside it; relative to the spec.
   */
  path?: string;
  /**
   * GGUF file with its tokenizer inside, relative to the spec.
   */
  gguf?: string;
  /**
   * Model of the Hugging Face Hub as `organisation/name@revision`, where the revision is a commit, tag or branch (`main` without one). Its files are fetched when the spec is compiled; only a commit stays what it is.
   */
  hub?: string;
}
/**
 * Axis -> its values. Every combination is meant, less `exclude`, plus `include`.
 */
export interface Matrix {
  /**
   * Combinations to leave out; each may name some of the axes only.
   */
  exclude?: Combination[];
  /**
   * Combinations to add after `exclude`; an axis that is not named takes all its values.
   */
  include?: Combination[];
  [k: string]: Axis | Combination[] | undefined;
}
/**
 * Axis -> value or label.
 */
export interface Combination {
  [k: string]: string | number | boolean;
}
export interface PretrainStep {
  /**
   * Kind of the step.
   */
  uses: 'pretrain';
  with: PretrainWith;
  /**
   * `required`: no instance of the step starts before someone has approved it with `epsilonflow approve`.
   */
  approval?: 'required';
  /**
   * Which workers run its instances: `cpu` those of the queue `cpu`, `gpu` those of the queue `gpu`. No part of a result's content key.
   */
  device?: 'cpu' | 'gpu';
  /**
   * Steps that must end first, for order without data.
   */
  needs?: string[];
}
/**
 * Inputs and parameters of the kind.
 */
export interface PretrainWith {
  /**
   * Name of a dataset with `sensitivity: public`, of which the train split is read, or a `decontaminate` step.
   */
  corpus: string;
  /**
   * Shape of the model.
   */
  architecture?: Architecture | Expression;
  /**
   * Tokens of the byte-level BPE that is trained on the corpus.
   */
  vocabulary?: number | Expression;
  /**
   * Tokens seen in all.
   */
  tokens?: number | Expression;
  /**
   * Sequences a step.
   */
  batch?: number | Expression;
  /**
   * Tokens a sequence.
   */
  sequence?: number | Expression;
  /**
   * Peak learning rate (Adam).
   */
  lr?: number | Expression;
  /**
   * Fraction of the steps over which the learning rate rises.
   */
  warmup?: number | Expression;
  /**
   * Fraction of the documents that is held out.
   */
  validation?: number | Expression;
  /**
   * When a checkpoint is written: after so many steps or so many seconds, whichever comes first. A run that goes on repeats what came after the last one; no part of what a result is reused by.
   */
  checkpoint?: {
    /**
     * Steps.
     */
    steps?: number;
    /**
     * Seconds.
     */
    seconds?: number;
  };
  /**
   * Fixes initialisation, label draws, decoding and classifier batches. It never feeds DP noise or Poisson sampling.
   */
  seed?: number | Expression;
}
/**
 * Shape of a Llama-style decoder.
 */
export interface Architecture {
  /**
   * Width of the residual stream.
   */
  dim?: number | Expression;
  /**
   * Number of blocks.
   */
  layers?: number | Expression;
  /**
   * Attention heads; `dim` is a multiple of it.
   */
  heads?: number | Expression;
  /**
   * Key and value heads; `heads` is a multiple of it.
   */
  kvHeads?: number | Expression;
  /**
   * Width of the SwiGLU feed-forward.
   */
  hidden?: number | Expression;
  /**
   * Longest sequence, tokens.
   */
  context?: number | Expression;
}
export interface DecontaminateStep {
  /**
   * Kind of the step.
   */
  uses: 'decontaminate';
  with: DecontaminateWith;
  /**
   * `required`: no instance of the step starts before someone has approved it with `epsilonflow approve`.
   */
  approval?: 'required';
  /**
   * Steps that must end first, for order without data.
   */
  needs?: string[];
}
/**
 * Inputs and parameters of the kind.
 */
export interface DecontaminateWith {
  /**
   * Name of a dataset with `sensitivity: public`; its train split is read, and its texts go on without labels.
   */
  corpus: string;
  /**
   * Names of the datasets whose records are not to be in the corpus; all their splits are read. Private ones, two at most, need the waiver `decontamination`, since what is taken out depends on their records.
   */
  against: string | [string, ...string[]];
  /**
   * `cut`: takes out the spans that common runs cover; what stands before, between and after them are texts of their own. `drop`: takes out every text that holds a common run.
   */
  mode?: ('cut' | 'drop') | Expression;
  /**
   * Least length of a common run, tokens. A record that is shorter is never found: for short records take less.
   */
  runLength?: number | Expression;
}
export interface FinetuneStep {
  /**
   * Kind of the step.
   */
  uses: 'finetune';
  with: FinetuneWith;
  /**
   * `required`: no instance of the step starts before someone has approved it with `epsilonflow approve`.
   */
  approval?: 'required';
  /**
   * Which workers run its instances: `cpu` those of the queue `cpu`, `gpu` those of the queue `gpu`. No part of a result's content key.
   */
  device?: 'cpu' | 'gpu';
  /**
   * Steps that must end first, for order without data.
   */
  needs?: string[];
}
/**
 * Inputs and parameters of the kind.
 */
export interface FinetuneWith {
  /**
   * Name of a model, or a `pretrain` step.
   */
  model: string;
  /**
   * Name of a labelled dataset; its train split is read.
   */
  data: string;
  /**
   * Privacy loss that training may cost a record of the dataset; the noise is calibrated to it. `.inf`: no DP.
   */
  epsilon: number | 'inf' | Expression;
  /**
   * What is trained.
   */
  method?: Method | Expression;
  /**
   * `prefix-lm`: the loss is taken on the text and the end-of-text token, not on words of the class before them. `full-lm`: on these words too; only `prefix` conditioning has them.
   */
  objective?: ('prefix-lm' | 'full-lm') | Expression;
  /**
   * What the sum of an example's losses in nats is divided by, before its gradient is clipped. `tokens`: by their number, so that each example's loss is a mean. A number: by this constant, so that long texts weigh more; 1 for the sum itself.
   */
  lossDivisor?: 'tokens' | number | Expression;
  /**
   * What is done with the noised gradient; it costs no privacy.
   */
  optimizer?: Optimizer | Expression;
  /**
   * How the class enters. `class-bias`: learned class vectors and a learned class output bias, each a clipping group of its own. `prefix`: words before the text.
   */
  conditioning?: ('class-bias' | 'prefix') | Expression;
  /**
   * Optimiser steps; each draws a Poisson batch and adds noise once.
   */
  steps?: number | Expression;
  /**
   * Expected logical batch size, records. The sampling probability is this over `privacy.size`.
   */
  batch?: number | Expression;
  /**
   * Clip norm C of an example's whole contribution.
   */
  clip?: number | Expression;
  /**
   * Steps over which the learning rate rises.
   */
  warmup?: number | Expression;
  /**
   * How the learning rate falls after the warm-up: `linear` in a line, `cosine` in half a cosine; `constant`: not at all.
   */
  decay?: ('linear' | 'cosine' | 'constant') | Expression;
  /**
   * Learning rate of the last step, as a fraction of the peak; without effect where `decay` is `constant`.
   */
  finalLr?: number | Expression;
  /**
   * Longest sequence, tokens, end-of-text included; longer texts are cut.
   */
  sequence?: number | Expression;
  /**
   * Memory that training may take, about: a number and its unit, MiB or GiB, without a space. Logical batches are cut so that it suffices. Results depend on it in their last bits at most; where a step of DP training is repeated with another, its noise is drawn, and charged, anew.
   */
  memory?: string;
  /**
   * When a checkpoint is written: after so many steps or so many seconds, whichever comes first. A run that goes on repeats what came after the last one; no part of what a result is reused by.
   */
  checkpoint?: {
    /**
     * Steps.
     */
    steps?: number;
    /**
     * Seconds.
     */
    seconds?: number;
  };
  /**
   * Fixes initialisation, label draws, decoding and classifier batches. It never feeds DP noise or Poisson sampling.
   */
  seed?: number | Expression;
}
/**
 * Low-rank adapters (LoRA) on the linear layers of the decoder.
 */
export interface LoraMethod {
  /**
   * Which tuning method this is.
   */
  kind: 'lora';
  /**
   * Rank of each adapter.
   */
  rank?: number | Expression;
  /**
   * Scale: an adapter's output is multiplied by alpha / rank.
   */
  alpha?: number | Expression;
  /**
   * Which linear layers of each block get an adapter: the four of attention (`q`, `k`, `v`, `o`), the three of the feed-forward (`gate`, `up`, `down`). GPT-2 has `qkv`, `o`, `up` and `down`.
   */
  targets?:
    | [
        'q' | 'k' | 'v' | 'o' | 'gate' | 'up' | 'down' | 'qkv',
        ...('q' | 'k' | 'v' | 'o' | 'gate' | 'up' | 'down' | 'qkv')[],
      ]
    | Expression;
  /**
   * Peak learning rate. The default is meant for Adam.
   */
  lr?: number | Expression;
}
/**
 * Prompt tuning: trained embeddings in front of each text.
 */
export interface PromptMethod {
  /**
   * Which tuning method this is.
   */
  kind: 'prompt';
  /**
   * Trained positions in front of each text.
   */
  length?: number | Expression;
  /**
   * What they start as. `vocabulary`: embeddings of tokens drawn by the seed. `random`: normal numbers of the embeddings' deviation. `{ text: ... }`: the embeddings of a text's tokens, repeated or cut to the length.
   */
  init?:
    | ('vocabulary' | 'random')
    | {
        /**
         * A public text: it is not charged.
         */
        text: string;
      }
    | Expression;
  /**
   * Peak learning rate. The default is meant for Adam.
   */
  lr?: number | Expression;
}
/**
 * All weights of the model are trained. Under DP in float arithmetic: see the privacy guarantees.
 */
export interface FullMethod {
  /**
   * Which tuning method this is.
   */
  kind: 'full';
  /**
   * Peak learning rate. The default is meant for Adam.
   */
  lr?: number | Expression;
}
/**
 * Adam (Kingma and Ba 2015).
 */
export interface Adam {
  /**
   * Which optimiser this is.
   */
  kind: 'adam';
  /**
   * Share of the old mean of gradients.
   */
  beta1?: number | Expression;
  /**
   * Share of the old mean of squared gradients.
   */
  beta2?: number | Expression;
  /**
   * Added to the root of the mean of squares.
   */
  epsilon?: number | Expression;
}
/**
 * Adam with decoupled weight decay (Loshchilov and Hutter 2019).
 */
export interface AdamW {
  /**
   * Which optimiser this is.
   */
  kind: 'adamw';
  /**
   * Share of the old mean of gradients.
   */
  beta1?: number | Expression;
  /**
   * Share of the old mean of squared gradients.
   */
  beta2?: number | Expression;
  /**
   * Added to the root of the mean of squares.
   */
  epsilon?: number | Expression;
  /**
   * Share of a matrix' values, times the learning rate, taken off in each step. Gains, biases and what belongs to a class keep theirs.
   */
  weightDecay?: number | Expression;
}
/**
 * Stochastic gradient descent.
 */
export interface Sgd {
  /**
   * Which optimiser this is.
   */
  kind: 'sgd';
  /**
   * Share of the old velocity that is kept.
   */
  momentum?: number | Expression;
}
export interface GenerateStep {
  /**
   * Kind of the step.
   */
  uses: 'generate';
  with: GenerateWith;
  /**
   * `required`: no instance of the step starts before someone has approved it with `epsilonflow approve`.
   */
  approval?: 'required';
  /**
   * Which workers run its instances: `cpu` those of the queue `cpu`, `gpu` those of the queue `gpu`. No part of a result's content key.
   */
  device?: 'cpu' | 'gpu';
  /**
   * Steps that must end first, for order without data.
   */
  needs?: string[];
}
/**
 * Inputs and parameters of the kind.
 */
export interface GenerateWith {
  /**
   * A `finetune` step.
   */
  generator: string;
  /**
   * Records to keep.
   */
  count: number | Expression;
  /**
   * Sampling temperature: logits are divided by it.
   */
  temperature?: number | Expression;
  /**
   * Only so many most probable tokens are drawn. Without it: all.
   */
  topK?: number | Expression;
  /**
   * Only the most probable tokens that together reach this probability are drawn.
   */
  topP?: number | Expression;
  /**
   * Makes tokens that a text already holds less probable: their positive logits are divided by this, negative ones multiplied.
   */
  repetitionPenalty?: number | Expression;
  /**
   * Texts of single tokens that are never drawn.
   */
  banned?: string[] | Expression;
  /**
   * Most tokens of a text; a text that reaches it is cut there.
   */
  maxTokens?: number | Expression;
  /**
   * Fixes initialisation, label draws, decoding and classifier batches. It never feeds DP noise or Poisson sampling.
   */
  seed?: number | Expression;
}
export interface TrainClassifierStep {
  /**
   * Kind of the step.
   */
  uses: 'train-classifier';
  with: TrainClassifierWith;
  /**
   * `required`: no instance of the step starts before someone has approved it with `epsilonflow approve`.
   */
  approval?: 'required';
  /**
   * Which workers run its instances: `cpu` those of the queue `cpu`, `gpu` those of the queue `gpu`. No part of a result's content key.
   */
  device?: 'cpu' | 'gpu';
  /**
   * Steps that must end first, for order without data.
   */
  needs?: string[];
}
export interface MeasureStep {
  /**
   * Kind of the step.
   */
  uses: 'measure';
  with: MeasureWith;
  /**
   * `required`: no instance of the step starts before someone has approved it with `epsilonflow approve`.
   */
  approval?: 'required';
  /**
   * Which workers run its instances: `cpu` those of the queue `cpu`, `gpu` those of the queue `gpu`. No part of a result's content key.
   */
  device?: 'cpu' | 'gpu';
  /**
   * Steps that must end first, for order without data.
   */
  needs?: string[];
}
/**
 * Inputs and parameters of the kind.
 */
export interface MeasureWith {
  /**
   * A `generate` step, or a dataset, whose train split is measured.
   */
  synthetic: string;
  /**
   * Dataset whose test split it is held against. Copies are sought in its train split, when it has one.
   */
  real: string;
  /**
   * A decoder: a model, or a `pretrain` step. It gives perplexity, and where there is no `encoder` the vectors behind MAUVE, Fréchet distance, precision and recall. Without either these are left out.
   */
  model?: string;
  /**
   * A model folder of the BERT family, such as all-MiniLM-L6-v2, that gives the vectors instead.
   */
  encoder?: string;
  /**
   * Rows of each set, at most: all sets have as many, and the test split is halved.
   */
  rows?: number | Expression;
  /**
   * Tokens of a text that models read, at most.
   */
  sequence?: number | Expression;
  /**
   * From which Jaccard similarity of their character 5-grams on two texts are near duplicates.
   */
  similarity?: number | Expression;
  /**
   * Bootstrap resamples behind the errors of figures of whole sets.
   */
  resamples?: number | Expression;
  /**
   * Fixes which rows are drawn, and the resamples.
   */
  seed?: number | Expression;
}
export interface AuditStep {
  /**
   * Kind of the step.
   */
  uses: 'audit';
  with: AuditWith;
  /**
   * `required`: no instance of the step starts before someone has approved it with `epsilonflow approve`.
   */
  approval?: 'required';
  /**
   * Which workers run its instances: `cpu` those of the queue `cpu`, `gpu` those of the queue `gpu`. No part of a result's content key.
   */
  device?: 'cpu' | 'gpu';
  /**
   * Steps that must end first, for order without data.
   */
  needs?: string[];
}
/**
 * Inputs and parameters of the kind.
 */
export interface AuditWith {
  /**
   * A `generate` step. Its generator, and the dataset that was trained on, whose test split is read too, are audited with it.
   */
  synthetic: string;
  /**
   * Random records of which a coin each plants half, once: they bound epsilon from below.
   */
  canaries?: number | Expression;
  /**
   * How many records of one text are planted, for each group of repeated canaries.
   *
   * @minItems 1
   */
  repetitions?: [number, ...number[]];
  /**
   * Records that are planted so many times, for each number of `repetitions`.
   */
  repeated?: number | Expression;
  /**
   * Random records, never planted, that a repeated canary is ranked among: its exposure is at most log2 of their number plus 1.
   */
  candidates?: number | Expression;
  /**
   * Records drawn from the generator with canaries, in which these are sought.
   */
  samples?: number | Expression;
  /**
   * Training records, and as many test records, that are told apart: at most.
   */
  rows?: number | Expression;
  /**
   * Fixes the canaries, which of them are planted, and which rows are drawn.
   */
  seed?: number | Expression;
}
export interface CompareStep {
  /**
   * Kind of the step.
   */
  uses: 'compare';
  with: CompareWith;
  /**
   * `required`: no instance of the step starts before someone has approved it with `epsilonflow approve`.
   */
  approval?: 'required';
  /**
   * Steps that must end first, for order without data.
   */
  needs?: string[];
}
/**
 * Inputs and parameters of the kind.
 */
export interface CompareWith {
  /**
   * Name of the arm -> a `train-classifier` step. All arms have the same epsilon; arms on public data only fit any.
   */
  arms: {
    [k: string]: string;
  };
  /**
   * A `train-classifier` step as upper reference, exempt from the equal-epsilon rule.
   */
  ceiling?: string;
  /**
   * What is compared. `accuracy`: share of the test records that are classified right. `macro-f1`: mean of the F1 scores of the classes, each class counting alike.
   */
  metric?: ('accuracy' | 'macro-f1') | Expression;
  /**
   * Axes that are gathered: one comparison for all their values.
   */
  over?: string[];
}
/**
 * The most steps of a run at a time, by what they run on. No result depends on it.
 */
export interface Limits {
  /**
   * Steps that compute on the processor. Without it as many as workers take.
   */
  cpu?: number;
  /**
   * Steps with `device: gpu`. Without it as many as workers take.
   */
  gpu?: number;
}
export interface Waiver {
  /**
   * `test-metrics`: exact test metrics of private data may leave. `measures`: exact measures and audits of private records may leave. `non-private-training`: training on private data without DP. `decontamination`: a corpus may be decontaminated against private data, and counts of what overlapped may leave.
   */
  name: 'test-metrics' | 'measures' | 'non-private-training' | 'decontamination';
  /**
   * Why this is acceptable here.
   */
  reason: string;
}
export interface Profile {
  [k: string]: unknown;
}
