/** @file Resolved parameters of each step kind, as they stand in a plan: every default filled in. */

export type Epsilon = number | 'inf';

/** When a checkpoint is written: after so many steps or seconds, whichever comes first. */
export interface CheckpointInterval {
  steps: number;
  seconds: number;
}

export interface StepParams {
  decontaminate: DecontaminateParams;
  pretrain: PretrainParams;
  finetune: FinetuneParams;
  generate: GenerateParams;
  'train-classifier': TrainClassifierParams;
  measure: MeasureParams;
  audit: AuditParams;
  compare: CompareParams;
}

/** Inputs: `corpus` (dataset), `against.0`, `against.1` ... (datasets). Output: what is left of the corpus. */
export interface DecontaminateParams {
  /** `cut`: takes the common spans out. `drop`: takes out the documents that hold one. */
  mode: 'cut' | 'drop';
  /** Least length of a common run, tokens. */
  runLength: number;
}

/** Inputs: `corpus` (dataset or decontaminate node). Output: a model folder in Hugging Face layout. */
export interface PretrainParams {
  architecture: {
    dim: number;
    layers: number;
    heads: number;
    kvHeads: number;
    /** Width of the SwiGLU feed-forward. */
    hidden: number;
    /** Longest sequence, tokens. */
    context: number;
  };
  /** Size of the byte-level BPE trained on the corpus. */
  vocabulary: number;
  /** Tokens seen in all. */
  tokens: number;
  /** Sequences a step. */
  batch: number;
  /** Tokens a sequence. */
  sequence: number;
  lr: number;
  /** Fraction of steps. */
  warmup: number;
  /** Fraction of documents held out. */
  validation: number;
  checkpoint: CheckpointInterval;
  seed: number;
}

export interface LoraMethod {
  kind: 'lora';
  rank: number;
  alpha: number;
  targets: ('q' | 'k' | 'v' | 'o' | 'gate' | 'up' | 'down' | 'qkv')[];
  lr: number;
}

export interface PromptMethod {
  kind: 'prompt';
  /** Positions in front of each text. */
  length: number;
  init: 'vocabulary' | 'random' | { text: string };
  lr: number;
}

/** All weights of the model. */
export interface FullMethod {
  kind: 'full';
  lr: number;
}

export interface AdamOptimizer {
  kind: 'adam';
  beta1: number;
  beta2: number;
  epsilon: number;
}

export type Optimizer =
  | AdamOptimizer
  | (Omit<AdamOptimizer, 'kind'> & { kind: 'adamw'; weightDecay: number })
  | { kind: 'sgd'; momentum: number };

/** Gradients of all weights are clipped by norms that are never written down, which exact arithmetic can't use. */
export const arithmeticOf = ({ kind }: FinetuneParams['method']): 'exact' | 'float' =>
  kind === 'full' ? 'float' : 'exact';

/** Inputs: `data` (dataset, split train), `model` (model, or a pretrain node). */
export interface FinetuneParams {
  method: LoraMethod | PromptMethod | FullMethod;
  /** Which tokens are predicted: those after the class, or those of the class before a text too. */
  objective: 'prefix-lm' | 'full-lm';
  /** What an example's sum of losses is divided by: the number of its predicted tokens, or a constant. */
  lossDivisor: 'tokens' | number;
  optimizer: Optimizer;
  /** `prefix`: the class is words before the text. `class-bias`: class vectors and a class output bias, trained. */
  conditioning: 'prefix' | 'class-bias';
  epsilon: Epsilon;
  steps: number;
  /** Expected logical batch size, records. */
  batch: number;
  /** Clip norm C of an example's whole contribution. */
  clip: number;
  /** Steps of linear warm-up. */
  warmup: number;
  /** How the learning rate falls after the warm-up. */
  decay: 'linear' | 'cosine' | 'constant';
  /** Learning rate at the end over the peak. */
  finalLr: number;
  /** Longest sequence, tokens, prefix and end-of-text included; longer texts are cut. */
  sequence: number;
  /** Memory that training may take, such as `4GiB`: no part of the content key. */
  memory: string;
  checkpoint: CheckpointInterval;
  seed: number;
}

/** Inputs: `generator` (finetune node), `model` (the generator's base model). */
export interface GenerateParams {
  /** Records to keep. */
  count: number;
  temperature: number;
  /** Only so many most probable tokens; absent: all. */
  topK?: number;
  /** Only the most probable tokens that together reach this probability. */
  topP: number;
  /** 1: none. */
  repetitionPenalty: number;
  /** Texts of single tokens that are never drawn. */
  banned: string[];
  /** Most tokens of a text. */
  maxTokens: number;
  seed: number;
}

interface ClassifierParams {
  /** Without DP when `inf`, or when `train` is public or synthetic. */
  epsilon: Epsilon;
  /** Records a batch, without DP. */
  batch: number;
  /** Passes over the training data (no DP), at most: early stopping on a split of the training data. */
  epochs: number;
  /** DP-SGD: noised steps, expected batch size, clip norm. */
  dp: { steps: number; batch: number; clip: number };
  /** Of DP-SGD. */
  checkpoint: CheckpointInterval;
  /** Noise on the counts of a private test split; absent where the split is not private, or under a waiver. */
  release?: { epsilon: number };
  seed: number;
}

export interface WordCnnParams extends ClassifierParams {
  family: 'word-cnn';
  /** Hashed vocabulary: number of word buckets. */
  buckets: number;
  /** Words a text, longer ones are cut. */
  words: number;
  embedding: number;
  filters: number;
  widths: number[];
  dropout: number;
  lr: number;
  /** With the rate, and the sizes that a private model has instead. */
  dp: ClassifierParams['dp'] & { lr: number; buckets: number; embedding: number; filters: number };
}

export interface LinearParams extends ClassifierParams {
  family: 'linear';
  /** Hashed n-grams: number of buckets. */
  buckets: number;
  /** Words a text, longer ones are cut. */
  words: number;
  /** Longest n-grams, words. */
  ngrams: number;
  lr: number;
  /** With the rate, and the buckets that a private model has instead. */
  dp: ClassifierParams['dp'] & { lr: number; buckets: number };
}

/** Another input: `model` (model, or a pretrain node). */
export interface TransformerParams extends ClassifierParams {
  family: 'transformer';
  method: LoraMethod | FullMethod;
  /** Mean of the text's hidden states, or that of one token: a decoder's last, an encoder's first. */
  pooling: 'mean' | 'token';
  /** Longest text, tokens. */
  sequence: number;
  /** Memory that training may take, such as `4GiB`: no part of the content key. */
  memory: string;
}

/** Inputs: `train` (dataset or generate node), `test` (dataset). */
export type TrainClassifierParams = WordCnnParams | LinearParams | TransformerParams;

/** Classifiers from scratch clip in exact arithmetic. */
export const classifierArithmetic = (params: TrainClassifierParams): 'exact' | 'float' =>
  params.family === 'transformer' ? arithmeticOf(params.method) : 'exact';

/** Inputs: `synthetic` (generate node or dataset), `real` (dataset), optional `model` (model or pretrain node), `encoder` (model). */
export interface MeasureParams {
  /** Rows of each set, at most. */
  rows: number;
  /** Tokens of a text that models read, at most. */
  sequence: number;
  /** Jaccard similarity from which on texts are near duplicates. */
  similarity: number;
  /** Bootstrap resamples. */
  resamples: number;
  seed: number;
}

/**
 * Inputs: `synthetic` (generate node), and of it `generator` (finetune node), `data` (dataset, splits train and test) and
 * `model` (the generator's base model).
 */
export interface AuditParams {
  /** Canaries that a coin each plants once or not at all. */
  canaries: number;
  /** How many times others are planted, and how many canaries there are of each. */
  repetitions: number[];
  repeated: number;
  /** Texts never planted that repeated canaries are ranked among. */
  candidates: number;
  /** Texts drawn from the generator with canaries. */
  samples: number;
  /** Training records, and as many test records, that are told apart: at most. */
  rows: number;
  seed: number;
  /** How the audited generator was trained, and its texts drawn; those steps' own parameters. */
  training: FinetuneParams;
  generation: GenerateParams;
}

/** Inputs: `arms.NAME` (train-classifier nodes), optional `ceiling` (train-classifier nodes). */
export interface CompareParams {
  metric: 'accuracy' | 'macro-f1';
  /** Axes gathered over. */
  over: string[];
}
