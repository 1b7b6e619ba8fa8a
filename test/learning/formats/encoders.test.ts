/** @file Encoders against hidden states and gradients of PyTorch's transformers (`fixtures/make-models.py`). */

import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { compile, disposeTree } from '../../../learning/compile/index.ts';
import { encode } from '../../../learning/encoder/forward.ts';
import { readEncoder, type Encoder } from '../../../learning/formats/encoder-folder.ts';
import { readFolderTensors } from '../../../learning/formats/model-folder.ts';
import { tf, type Tensor } from '../../../learning/tensorflow.ts';
import { addTensor } from './stored-buffers.ts';

const fixtures = new URL('../fixtures/models/', import.meta.url).pathname;

interface Expected {
  ids: number[][];
  mask: number[][];
  hidden: string;
  gradients: Record<string, string>;
}

const { encoders } = JSON.parse(await readFile(join(fixtures, 'expected.json'), 'utf8')) as {
  encoders: Record<string, Expected>;
};
const floats = (text: string): Float32Array => new Float32Array(new Uint8Array(Buffer.from(text, 'base64')).buffer);

type Inputs = { weights: Record<string, Tensor>; tokens: Tensor; present: Tensor; shares: Tensor };

describe.each(Object.entries(encoders))('the encoder %s', (name, { ids, mask, hidden, gradients }) => {
  const [rows, time] = [ids.length, ids[0]!.length];
  const expected = floats(hidden);
  const dim = expected.length / rows / time;
  let encoder: Encoder;
  let inputs: Inputs;
  beforeAll(async () => {
    encoder = await readEncoder(join(fixtures, name));
    const present = tf.tensor2d(mask, [rows, time]) as Tensor;
    const each = tf.linspace(-1, 1, expected.length).reshape([rows, time, dim]);
    inputs = {
      weights: encoder.weights,
      tokens: tf.tensor2d(ids, [rows, time], 'int32'),
      present,
      shares: each.mul(present.reshape([rows, time, 1])),
    };
  });
  afterAll(() => disposeTree(inputs));

  it('gives the hidden states of another implementation, compiled too', () => {
    const plain = ({ weights, tokens, present }: Inputs) => ({
      hidden: encode(encoder.config, weights, tokens, present),
    });
    const program = compile(plain);
    for (const found of [plain(inputs), program(inputs)]) {
      const values = found.hidden.dataSync();
      expect(values).toHaveLength(expected.length);
      expected.forEach((value, at) => {
        if (mask.flat()[Math.floor(at / dim)] === 1) expect(Math.abs(value - values[at]!)).toBeLessThan(1e-4);
      });
    }
    program.dispose();
  });

  it('gives the gradients of another implementation', () => {
    const names = Object.keys(encoder.weights);
    const { tokens, present, shares } = inputs;
    const { grads } = tf.valueAndGrads((...list: Tensor[]) => {
      const weights = Object.fromEntries(names.map((each, at) => [each, list[at] as Tensor]));
      return encode(encoder.config, weights, tokens, present).mul(shares).sum() as never;
    })(names.map((each) => encoder.weights[each] as Tensor));
    expect(Object.keys(gradients).length).toBeGreaterThan(30);
    for (const [path, text] of Object.entries(gradients)) {
      const wanted = floats(text);
      const found = (grads[names.indexOf(path)] as Tensor).dataSync();
      const size = Math.max(...wanted.map(Math.abs));
      wanted.forEach((value, at) => expect(Math.abs(value - found[at]!), path).toBeLessThan(1e-4 * Math.max(1, size)));
    }
    tf.dispose(grads);
  });
});

it.each(['bert', 'roberta'])('the encoder %s may have its positions stored as 64 bit numbers', async (name) => {
  const folder = await mkdtemp(join(tmpdir(), 'encoders-'));
  try {
    await cp(join(fixtures, name), folder, { recursive: true });
    const [plain, { config }] = await Promise.all([readFolderTensors(folder, () => true), readEncoder(folder)]);
    const prefix = Object.keys(plain).some((stored) => stored.startsWith(`${name}.`)) ? `${name}.` : '';
    const shape = [1, config.context];
    const table = { dtype: 'I64', shape, bytes: 8 * config.context };
    await addTensor(join(folder, 'model.safetensors'), `${prefix}embeddings.position_ids`, table);
    const { weights } = await readEncoder(folder);
    const wanted = await readEncoder(join(fixtures, name));
    expect(Object.keys(weights)).toEqual(Object.keys(wanted.weights));
    disposeTree([weights, wanted.weights]);
  } finally {
    await rm(folder, { recursive: true });
  }
});

describe('an encoder of another kind', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'encoders-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it.each([
    [{ model_type: 'deberta' }, /model_type is "deberta"; bert and roberta/],
    [{ position_embedding_type: 'relative_key' }, /position_embedding_type is "relative_key"/],
    [{ hidden_act: 'relu' }, /hidden_act is "relu"/],
    [{ num_hidden_layers: 1 }, /encoder\.layer\.1\..* is unknown/],
  ])('is refused with %j', async (changes, message) => {
    await cp(join(fixtures, 'bert'), folder, { recursive: true });
    const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as Record<string, unknown>;
    await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, ...changes }));
    await expect(readEncoder(folder)).rejects.toMatchObject({ code: 'MODEL_INVALID' });
    await expect(readEncoder(folder)).rejects.toThrow(message);
  });
});
