/** @file A trained model of 135 million parameters from its quantised file, against what PyTorch's transformers gives. */

import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { disposeTree } from '../../learning/compile/index.ts';
import { forward } from '../../learning/decoder/forward.ts';
import { readModel, readTokenizer, type Model } from '../../learning/formats/model.ts';
import { tf } from '../../learning/tensorflow.ts';
import { requires } from '../requires.ts';
import { smolLm2File } from '../smol-lm2.ts';

const hasModel = requires('smollm2', 'SmolLM2-135M from its GGUF file');

describe.runIf(hasModel)('SmolLM2-135M-Instruct', () => {
  let model: Model;
  beforeAll(async () => {
    model = await readModel(smolLm2File);
  });
  afterAll(() => disposeTree(model.weights));

  it('has the logits of another implementation', async () => {
    const ids = [1, 504, 3575, 282, 4649, 314];
    const last = tf.tidy(() => {
      const logits = forward(model.config, model.weights, tf.tensor2d([ids], [1, ids.length], 'int32'));
      return logits.slice([0, ids.length - 1, 0], [1, 1, model.config.vocab]).dataSync();
    });
    const best = Array.from(last, (logit, id) => ({ logit, id })).sort((a, b) => b.logit - a.logit);
    expect(best.slice(0, 3).map(({ id }) => id)).toEqual([7042, 3692, 2250]);
    [15.414041, 11.647423, 11.250318].forEach((logit, at) => {
      expect(Math.abs(best[at]!.logit - logit)).toBeLessThan(1e-4);
    });
    const tokenizer = await readTokenizer(smolLm2File);
    expect(tokenizer.decode([...ids.slice(1), 7042])).toBe('The capital of France is Paris');
  });

  it('has a tokenizer that gives the ids of another library', async () => {
    const { texts, smolLm2 } = JSON.parse(
      await readFile(new URL('fixtures/tokenizers.json', import.meta.url), 'utf8'),
    ) as { texts: string[]; smolLm2: number[][] };
    const tokenizer = await readTokenizer(smolLm2File);
    expect(texts.map((text) => Array.from(tokenizer.encode(text)))).toEqual(smolLm2);
    expect([tokenizer.bosId, tokenizer.eosId, tokenizer.vocabularySize]).toEqual([1, 2, model.config.vocab]);
  });
});
