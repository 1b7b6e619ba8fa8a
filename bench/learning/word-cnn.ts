/** @file DP-SGD steps of the word-CNN on made-up texts. */

import { zeroState } from '../../learning/dp/optimisers.ts';
import { machine } from '../../learning/machine.ts';
import { WordCnn } from '../../learning/word-cnn/network.ts';
import { initialWeights, type WordCnnShape } from '../../learning/word-cnn/parameters.ts';
import { namedWeights, trainPrivately } from '../../learning/word-cnn/private-training.ts';
import type { EncodedTexts } from '../../learning/word-cnn/words.ts';
import { seededStream } from '../../privacy/noise.ts';
import { wholeBatches } from './mechanism.ts';
import { localArm, type Arm } from './turns.ts';

/** Word numbers of texts with these lengths; few words are frequent, as in natural text. */
function madeUpTexts(lengths: readonly number[], buckets: number): EncodedTexts {
  const stream = seededStream(1, 'bench texts');
  const starts = Int32Array.from({ length: lengths.length + 1 });
  lengths.forEach((length, index) => (starts[index + 1] = starts[index]! + length));
  const words = Int32Array.from({ length: starts.at(-1)! }, () =>
    Math.min(buckets - 1, Math.floor((buckets - 1) ** stream.uniform())),
  );
  return { words, starts };
}

/** As many texts as a batch has, of 10 to 39 words. */
export function madeUpLengths(batch: number): number[] {
  const stream = seededStream(2, 'bench lengths');
  return Array.from({ length: batch }, () => 10 + Math.floor(stream.uniform() * 30));
}

/** Thrown into a training that is over. */
class Stopped extends Error {
  override readonly name = 'Stopped';
}

/** Steps of one training, all texts in each batch; it stands still between them, and its threads start before the first. */
export function wordCnnArm(
  name: string,
  shape: WordCnnShape,
  lengths: readonly number[],
): Arm & { dispose(): Promise<void> } {
  const weights = initialWeights(shape, seededStream(3, 'bench weights'), 0.05);
  const data = {
    texts: madeUpTexts(lengths, shape.buckets),
    labels: Int32Array.from(lengths, (_, index) => index % shape.classes),
  };
  const values = namedWeights(weights);
  let training: Promise<unknown> | null = null;
  let pause: { goOn: () => void; stop: (reason: Error) => void } | null = null;
  let finished = (): void => undefined;
  const begin = (): Promise<unknown> =>
    trainPrivately(
      new WordCnn(shape, weights),
      data,
      {
        schedule: { lr: 1e-3, warmup: 0, decay: 'constant', finalLr: 1, steps: 1_000_000 },
        mechanism: wholeBatches(lengths.length, 'exact'),
        secret: { key: Buffer.alloc(32, 1), nodeKey: 'bench' },
        machine: machine(),
      },
      { step: 0, values, ...zeroState(values) },
      {
        beforeStep: () => Promise.resolve(),
        between: () => Promise.resolve(),
        afterStep: () => {
          finished();
          return new Promise((goOn, stop) => (pause = { goOn, stop }));
        },
      },
    );
  const arm = localArm(name, async () => {
    const step = new Promise<void>((resolve) => (finished = resolve));
    training ??= begin();
    pause?.goOn();
    await Promise.race([step, training]);
  });
  return {
    ...arm,
    dispose: async () => {
      pause?.stop(new Stopped());
      await training?.catch((error: unknown) => {
        if (!(error instanceof Stopped)) throw error;
      });
    },
  };
}
