/** @file The README.md of a base model: what it was trained on, how well it does, what it is not good for. */

import type { LlamaConfig } from '../decoder/config.ts';

export interface CorpusSource {
  name: string;
  passages: number;
  characters: number;
  licence: string;
}

export interface PretrainingFacts {
  config: LlamaConfig;
  parameters: number;
  dataset: string;
  /** Digest of the corpus as the plan names it. */
  datasetDigest: string;
  /** Empty when the corpus came without a manifest. */
  sources: readonly CorpusSource[];
  /** Datasets whose passages were taken out of the corpus. */
  decontaminatedAgainst: readonly string[];
  documents: number;
  heldOutDocuments: number;
  /** Tokens predicted in training, repeats counted. */
  tokensSeen: number;
  /** Tokens in the training documents. */
  tokensAvailable: number;
  steps: number;
  batch: number;
  sequence: number;
  learningRate: number;
  warmup: number;
  seed: number;
  nats: { perToken: number; perByte: number };
}

const count = (value: number): string => value.toLocaleString('en-US');

/** Markdown with a front matter that model hubs read. */
export function modelCard(facts: PretrainingFacts): string {
  const { config } = facts;
  const sources = facts.sources.map(
    ({ name, passages, characters, licence }) =>
      `| ${name} | ${count(passages)} | ${count(characters)} | ${licence.replaceAll('|', '\\|')} |`,
  );
  const corpus =
    sources.length > 0
      ? ['| source | passages | characters | licence |', '|---|---:|---:|---|', ...sources].join('\n')
      : 'The corpus came without a manifest of its sources.';
  const against = facts.decontaminatedAgainst.map((name) => `\`${name}\``).join(', ');
  const derives = against === '' ? 'nothing in it derives from private data' : 'but see training data';
  const decontaminated =
    against === ''
      ? ''
      : `\nPassages that it has in common with ${against} were taken out. Which ones depends on the records there, and no epsilon bounds that.\n`;
  return `---
library_name: transformers
pipeline_tag: text-generation
tags: [llama, base-model, differential-privacy]
---
# Base language model

A small Llama-style decoder, pre-trained from nothing on public text by \`epsilonflow\` (step kind \`pretrain\`). It is the
public starting point of differentially private fine-tuning: ${derives}.

## Architecture
${count(facts.parameters)} parameters: width ${config.dim}, ${config.layers} layers, ${config.heads} heads (${config.kvHeads} for keys and values), feed-forward ${config.hidden}, context ${config.context} tokens,
${config.tied ? 'head tied to the embedding' : 'a head of its own'}, RoPE base ${config.ropeTheta}. Byte-level BPE of ${count(config.vocab)} tokens, trained on the same text (held-out documents left out).

## Training data
Dataset \`${facts.dataset}\`, digest \`${facts.datasetDigest}\`: ${count(facts.documents)} documents for training, ${count(facts.heldOutDocuments)} held out.
${decontaminated}
${corpus}

## Training
${count(facts.tokensSeen)} tokens seen (${(facts.tokensSeen / facts.tokensAvailable).toFixed(2)} passes over ${count(facts.tokensAvailable)}), ${count(facts.steps)} steps of ${facts.batch} sequences of ${facts.sequence} tokens; Adam (beta 0.9, 0.95), peak learning
rate ${facts.learningRate}, ${Math.round(facts.warmup * 100)} % warm-up, cosine decay to 10 %, gradient norm clipped to 1, no weight decay, seed ${facts.seed}, float32.

## Evaluation
Held-out documents: **${facts.nats.perByte.toFixed(3)} nats a byte**, ${facts.nats.perToken.toFixed(3)} nats a token (end-of-text tokens predicted too; bytes are those of the texts).

## Limits
A model of this size writes locally plausible English and knows next to nothing. It carries the biases and errors of
its sources. Its licence cannot be freer than those of the sources above; do not use it where one of them forbids it.
`;
}
