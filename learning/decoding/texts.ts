/**
 * @file Texts from a fine-tuned decoder. Row i of a run has a random stream of its own, which gives its label and its
 * uniform numbers: the same seed gives the same rows, and more of them only add to the end. A row that has ended makes
 * room for the next, so that the batch stays full.
 */

import { seededStream, type KeyedStream } from '../../privacy/noise.ts';
import { callsAtOnce, isOnCard } from '../machine.ts';
import { headDim, type DecoderConfig } from '../decoder/config.ts';
import type { Tokenizer } from '../tokenizer/index.ts';
import { compileBlockDecoder, type BlockDecoder, type BlockRows, type DecodedModel } from './block-decoder.ts';
import type { SamplingRules } from './sampling.ts';

/** Most rows of a call. A product reads all weights, whatever the rows: with 128 a row costs two thirds of with 32. */
const mostRows = (): number => (isOnCard() ? 256 : 128);

const mostCalls = 8;

/** Bytes for the keys and values of all rows, which lie in memory twice while a block is written. */
const cacheMemory = 2 ** 31;

/**
 * How rows are decoded. The bits of a text depend on `batch` and `block`, and these on the model and the longest text,
 * but not on memory or cores.
 */
function layoutOf(config: DecoderConfig, prompt: number, positions: number) {
  // Longer blocks run faster and take longer to compile, as more layers do.
  const block = config.layers <= 8 ? 8 : 4;
  const maxTime = Math.ceil(positions / block) * block;
  const rowBytes = 2 * 2 * 4 * config.layers * config.kvHeads * headDim(config) * (prompt + maxTime);
  let batch = mostRows();
  while (batch > 1 && batch * rowBytes > cacheMemory) batch /= 2;
  const fitting = Math.floor(cacheMemory / (batch * rowBytes));
  return { block, maxTime, batch, calls: Math.max(1, Math.min(fitting, callsAtOnce(), mostCalls)) };
}

export interface TextGeneratorOptions {
  model: DecodedModel;
  tokenizer: Tokenizer;
  /** Token ids fed before the text, one list for each label; at least one label. */
  prefixes: readonly (readonly number[])[];
  /** Most tokens of a text. */
  maxTokens: number;
  rules: SamplingRules;
  /** Tokens that are never drawn. */
  banned: readonly number[];
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

/** A text in the making. */
interface Row {
  row: number;
  label: number;
  stream: KeyedStream;
  ids: number[];
  /** Position of the next block, from 0. */
  start: number;
  /** Token at that position. */
  token: number;
  ended: boolean;
}

export class TextGenerator {
  private readonly options: TextGeneratorOptions;
  private readonly decoder: BlockDecoder;
  /** Rows in the making. */
  private readonly rows: number;
  private readonly block: number;

  constructor(options: TextGeneratorOptions) {
    const { model, prefixes, maxTokens, rules, banned } = options;
    this.options = options;
    // The start token, the longest prefix and the text; the last token is never fed.
    const positions = Math.max(...prefixes.map((prefix) => prefix.length)) + maxTokens;
    const layout = layoutOf(model.config, model.prompt?.shape[0] ?? 0, positions);
    this.decoder = compileBlockDecoder(model, { ...layout, rules, banned });
    this.rows = layout.batch * layout.calls;
    this.block = layout.block;
  }

  /**
   * Texts of the rows from `from` on, in their order.
   *
   * @param wanted how many more texts the caller may take; asked before rows are begun, none of them in vain
   * @param onBlock hears after each block how many tokens were decoded; may yield to the event loop or throw
   */
  async *texts(
    from: number,
    wanted: () => number,
    onBlock: (tokens: number) => Promise<void>,
  ): AsyncGenerator<GeneratedText> {
    const slots: (Row | null)[] = Array.from({ length: this.rows }, () => null);
    const ended = new Map<number, Row>();
    let [begun, given] = [from, from];
    while (true) {
      for (const [slot, row] of slots.entries()) {
        if (row === null && begun - given < wanted()) slots[slot] = this.begin(begun++);
      }
      if (begun === given) return;
      this.decode(slots);
      let live = 0;
      slots.forEach((row, slot) => {
        if (row === null) return;
        live++;
        if (!this.isOver(row)) return;
        ended.set(row.row, row);
        slots[slot] = null;
      });
      await onBlock(live * this.block);
      for (let row = ended.get(given); row !== undefined; row = ended.get(given)) {
        ended.delete(given++);
        yield this.finished(row);
      }
    }
  }

  dispose(): void {
    this.decoder.dispose();
  }

  private begin(row: number): Row {
    const { seed, prefixes, tokenizer } = this.options;
    const stream = seededStream(seed, `generated row ${row}`);
    const label = Math.floor(stream.uniform() * prefixes.length);
    return { row, label, stream, ids: [], start: 0, token: tokenizer.bosId, ended: false };
  }

  private isOver({ ended, ids }: Row): boolean {
    return ended || ids.length === this.options.maxTokens;
  }

  private finished({ row, label, ids, ended }: Row): GeneratedText {
    return { row, label, text: this.options.tokenizer.decode(ids), tokens: ids.length, truncated: !ended };
  }

  /** Decodes a block of every row. */
  private decode(slots: readonly (Row | null)[]): void {
    const { prefixes, tokenizer, maxTokens } = this.options;
    const { block } = this;
    const rows: BlockRows = {
      live: slots.map((row) => row !== null),
      labels: new Int32Array(this.rows),
      starts: new Int32Array(this.rows),
      tokens: new Int32Array(this.rows).fill(tokenizer.bosId),
      forced: new Int32Array(this.rows * block).fill(-1),
      uniforms: new Float32Array(this.rows * block),
    };
    slots.forEach((row, slot) => {
      if (row === null) return;
      rows.labels[slot] = row.label;
      rows.starts[slot] = row.start;
      rows.tokens[slot] = row.token;
      const prefix = prefixes[row.label]!;
      for (let at = 0; at < block; at++) {
        const place = slot * block + at;
        const position = row.start + at;
        if (position < prefix.length) rows.forced[place] = prefix[position]!;
        // One number for each token of the text, whatever the prefix and the longest text.
        else rows.uniforms[place] = row.stream.uniform();
      }
    });
    const tokens = this.decoder.next(rows);
    slots.forEach((row, slot) => {
      if (row === null) return;
      const skipped = prefixes[row.label]!.length;
      for (let at = 0; at < block && !row.ended; at++) {
        if (row.start + at < skipped || row.ids.length === maxTokens) continue;
        const id = tokens[slot * block + at]!;
        if (id === tokenizer.eosId) row.ended = true;
        else row.ids.push(id);
      }
      row.start += block;
      row.token = tokens[slot * block + block - 1]!;
    });
  }
}
