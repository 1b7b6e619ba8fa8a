/**
 * @file Texts from a fine-tuned decoder. Row i of a run has a random stream of its own, which gives its label and its
 * uniform numbers: the same seed gives the same rows, and more of them only add to the end.
 */

import { seededStream } from '../../privacy/noise.ts';
import type { DecoderConfig } from '../decoder/config.ts';
import type { Weights } from '../decoder/weights.ts';
import type { Tokenizer } from '../tokenizer/index.ts';
import { compileBlockDecoder, type BlockDecoder, type DecodeRequest } from './block-decoder.ts';

/** Rows decoded together: enough to fill the matrix units, few enough for the caches. */
const batch = 256;
/** Longer blocks run a little faster and take twice as long to compile. */
const block = 4;

export interface TextGeneratorOptions {
  config: DecoderConfig;
  /** Base weights with the adapter merged in. */
  weights: Weights;
  /** Class tables, empty when the prefix alone names the class. */
  conditioning: Weights;
  tokenizer: Tokenizer;
  /** Token ids fed before the text, one list for each label; at least one label. */
  prefixes: readonly (readonly number[])[];
  /** Most tokens of a text. */
  maxTokens: number;
  /** Above 0. */
  temperature: number;
  seed: number;
}

export interface GeneratedText {
  /** Number of the row. */
  row: number;
  /** Drawn uniformly. */
  label: number;
  text: string;
  /** Tokens of the text, end-of-text not counted. */
  tokens: number;
  /** The text was cut at `maxTokens`. */
  truncated: boolean;
}

interface Row {
  label: number;
  ids: number[];
  ended: boolean;
}

/** Positions that a batch needs: the start token, the longest prefix and the text; the last token is never fed. */
const decodingTime = (prefixes: readonly (readonly number[])[], maxTokens: number): number =>
  Math.max(...prefixes.map((prefix) => prefix.length)) + maxTokens;

export class TextGenerator {
  private readonly options: TextGeneratorOptions;
  private readonly decoder: BlockDecoder;
  private readonly maxTime: number;

  constructor(options: TextGeneratorOptions) {
    const { config, weights, conditioning, prefixes, maxTokens } = options;
    this.options = options;
    this.maxTime = Math.ceil(decodingTime(prefixes, maxTokens) / block) * block;
    const classes = Object.keys(conditioning).length > 0 ? prefixes.length : 0;
    this.decoder = compileBlockDecoder(config, weights, conditioning, {
      batch,
      block,
      maxTime: this.maxTime,
      classes,
      greedy: false,
    });
  }

  /**
   * Rows `from` to `from + 255`. `onBlock` hears after each block how many tokens were decoded, and may yield to the
   * event loop or throw.
   */
  async batchFrom(from: number, onBlock: (tokens: number) => Promise<void>): Promise<GeneratedText[]> {
    const { prefixes, tokenizer, maxTokens } = this.options;
    const { request, rows } = this.prepare(from);
    await this.decoder.decode(request, async (tokens, start) => {
      rows.forEach((row, index) => {
        const skipped = prefixes[row.label]!.length;
        for (let at = 0; at < block && !row.ended; at++) {
          if (start + at < skipped || row.ids.length === maxTokens) continue;
          const id = tokens[index * block + at]!;
          if (id === tokenizer.eosId) row.ended = true;
          else row.ids.push(id);
        }
      });
      await onBlock(batch * block);
      return rows.some(({ ended, ids }) => !ended && ids.length < maxTokens);
    });
    return rows.map(({ label, ids, ended }, index) => ({
      row: from + index,
      label,
      text: tokenizer.decode(ids),
      tokens: ids.length,
      truncated: !ended,
    }));
  }

  dispose(): void {
    this.decoder.dispose();
  }

  private prepare(from: number): { request: DecodeRequest; rows: Row[] } {
    const { prefixes, tokenizer, seed, temperature } = this.options;
    const { maxTime } = this;
    const labels = new Int32Array(batch);
    const forced = new Int32Array(batch * maxTime).fill(-1);
    const uniforms = new Float32Array(batch * maxTime);
    for (let index = 0; index < batch; index++) {
      const stream = seededStream(seed, `generated row ${from + index}`);
      const label = Math.floor(stream.uniform() * prefixes.length);
      labels[index] = label;
      forced.set(prefixes[label]!, index * maxTime);
      // One number for each token of the text, whatever the prefix and the longest text.
      const first = index * maxTime + prefixes[label]!.length;
      for (let at = first; at < (index + 1) * maxTime; at++) uniforms[at] = stream.uniform();
    }
    const request: DecodeRequest = {
      labels,
      first: new Int32Array(batch).fill(tokenizer.bosId),
      forced,
      uniforms,
      inverseTemperature: 1 / temperature,
    };
    return { request, rows: Array.from(labels, (label) => ({ label, ids: [], ended: false })) };
  }
}
