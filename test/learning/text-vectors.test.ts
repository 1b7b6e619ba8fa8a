import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { flatHidden, flatLogits } from '../../learning/decoder/forward.ts';
import { encode } from '../../learning/encoder/forward.ts';
import { readEncoder } from '../../learning/formats/encoder-folder.ts';
import { readModel, readTokenizer } from '../../learning/formats/model.ts';
import { tf, type Tensor } from '../../learning/tensorflow.ts';
import { decoderEmbedder, encoderEmbedder } from '../../learning/text-vectors.ts';
import { openTinyWorld, type TinyWorld } from '../orchestration/tiny-experiment.ts';
import { wordLevelTokenizer } from './word-level-tokenizer.ts';

let world: TinyWorld;
let bert: string;
beforeAll(async () => {
  world = await openTinyWorld({ train: 1, withModel: true });
  bert = await mkdtemp(join(tmpdir(), 'encoder of a test '));
  await cp(new URL('./fixtures/models/bert', import.meta.url), bert, { recursive: true });
  await writeFile(join(bert, 'tokenizer.json'), JSON.stringify(wordLevel));
  await writeFile(join(bert, 'tokenizer_config.json'), JSON.stringify({ unk_token: '[UNK]' }));
});
afterAll(async () => {
  world.remove();
  await rm(bert, { recursive: true });
});

const vocabulary = ['[UNK]', '[CLS]', '[SEP]', 'ice', 'snow', 'sun'];
const wordLevel = {
  ...wordLevelTokenizer(vocabulary),
  // Of another one's batches: not followed.
  truncation: { max_length: 3, direction: 'Right', strategy: 'LongestFirst', stride: 0 },
  padding: null,
};

const near = (found: ArrayLike<number>, wanted: ArrayLike<number>): void => {
  expect(found.length).toBe(wanted.length);
  for (let at = 0; at < wanted.length; at++) expect(Math.abs(found[at]! - wanted[at]!)).toBeLessThan(1e-4);
};
const heard: number[] = [];
const report = (done: number): Promise<void> => Promise.resolve(void heard.push(done));

describe('a decoder', () => {
  const texts = ['ice snow frost', '', 'sun', 'winter north glove sun sand heat summer south beach', 'ice snow frost'];
  const sequence = 12;

  it('gives each text the mean of its hidden states and the nats of its tokens, as one by one', async () => {
    const path = join(world.folder, 'base');
    const embedder = await decoderEmbedder(path, sequence);
    const { dim, vectors, loss } = await embedder.embed(texts, report);
    embedder.dispose();
    expect(heard.at(-1)).toBe(texts.length);
    const { config, weights } = await readModel(path);
    const { bosId, eosId, encode: idsOf } = await readTokenizer(path);
    texts.forEach((text, row) => {
      const tokens = [bosId, ...[...idsOf(text), eosId].slice(0, sequence)];
      const read = tf.tensor2d([tokens.slice(0, -1)], undefined, 'int32') as Tensor;
      const hidden = flatHidden(config, weights, read);
      const from = tokens.length > 2 ? 1 : 0;
      near(vectors.subarray(row * dim, (row + 1) * dim), hidden.slice([from, 0]).mean(0).dataSync());
      const logs = (tf.logSoftmax(flatLogits(config, weights, read) as never) as Tensor).arraySync() as number[][];
      const nats = logs.reduce((sum, each, at) => sum - each[tokens[at + 1]!]!, 0);
      expect(loss!.nats[row]).toBeCloseTo(nats, 3);
      expect(loss!.tokens[row]).toBe(tokens.length - 1);
    });
    tf.dispose(weights);
  }, 300_000);
});

describe('an encoder', () => {
  it('gives each text the mean of its hidden states, scaled to length 1; a cut text keeps its end', async () => {
    const embedder = await encoderEmbedder(bert, 5);
    const { dim, vectors, loss } = await embedder.embed(['ice', 'sun snow ice moon sun', 'ice'], report);
    embedder.dispose();
    expect(loss).toBeNull();
    const { config, weights } = await readEncoder(bert);
    const ids = [
      [1, 3, 2],
      [1, 5, 4, 3, 2],
      [1, 3, 2],
    ];
    ids.forEach((tokens, row) => {
      const read = tf.tensor2d([tokens], undefined, 'int32') as Tensor;
      const mean = encode(config, weights, read, tf.onesLike(read.toFloat())).mean([0, 1]);
      near(vectors.subarray(row * dim, (row + 1) * dim), mean.div(mean.norm()).dataSync());
    });
    tf.dispose(weights);
  }, 300_000);
});
