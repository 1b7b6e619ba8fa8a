/** @file Fine-tuning of a classifier without DP: the loop of `learning/dp` without noise, with early stopping. */

import { BestState, checkEvery, splitOff } from '../classifier/early-stopping.ts';
import { streamsOf } from '../classifier/epochs.ts';
import { predictions, scoreOf, type Predictions } from '../classifier/predictions.ts';
import { zeroState } from '../dp/optimisers.ts';
import type { EncodedRecord } from '../dp/sequences.ts';
import type { Trainer, TrainerHooks } from '../dp/trainer.ts';
import type { TrainedValues } from '../tuning/parameters.ts';

/** Thrown into a training whose checks have stopped getting better. */
class NoBetter extends Error {
  override readonly name = 'NoBetter';
}

/** Records that are learned from, and those that decide when to stop. */
export function splitRecords(
  records: readonly EncodedRecord[],
  seed: number,
): { training: EncodedRecord[]; validation: EncodedRecord[] } {
  const { training, validation } = splitOff(records.length, streamsOf(seed, 'transformer')('validation'));
  const chosen = (places: Int32Array): EncodedRecord[] => Array.from(places, (place) => records[place]!);
  return { training: chosen(training), validation: chosen(validation) };
}

const copyOf = (values: TrainedValues): TrainedValues =>
  Object.fromEntries(Object.entries(values).map(([name, array]) => [name, array.slice()]));

/**
 * Trains to the best check.
 *
 * @param evaluate writes what is said of the validation records, with these values
 * @param steps of the schedule; @param batches steps in a pass over the training records
 */
export async function trainToBest(
  trainer: Trainer,
  initial: TrainedValues,
  validation: readonly EncodedRecord[],
  { steps, batches, classes }: { steps: number; batches: number; classes: number },
  evaluate: (values: TrainedValues, into: Predictions) => Iterable<number>,
  hooks: Pick<TrainerHooks, 'between' | 'compiling'> & { breathe(): Promise<void> },
): Promise<TrainedValues> {
  const state = { step: 0, values: copyOf(initial), ...zeroState(initial) };
  const labels = validation.map(({ label }) => label);
  const best = new BestState<TrainedValues>();
  const every = checkEvery(batches);
  const check = async (): Promise<void> => {
    const size = { records: validation.length, classes };
    const said = await predictions(
      (into) => evaluate(state.values, into),
      size,
      () => hooks.breathe(),
    );
    best.observe(scoreOf(said, labels), () => copyOf(state.values));
  };
  const training = trainer.train(state, {
    ...hooks,
    beforeStep: () => Promise.resolve(),
    async afterStep(step) {
      const done = step + 1;
      if (validation.length > 0 && (done % every === 0 || done === steps)) await check();
      if (best.isOver) throw new NoBetter('the checks have stopped getting better');
      await hooks.breathe();
    },
  });
  await training.catch((error: unknown) => {
    if (!(error instanceof NoBetter)) throw error;
  });
  return best.state ?? state.values;
}
