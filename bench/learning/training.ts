/** @file Training steps: those of the engine with DP in both arithmetics and without, and a LoRA step without any trace of it. */

import { loraHook } from '../../learning/tuning/apply.ts';
import { initialValues, trainedParameters, type LoraShape, type TunedShape } from '../../learning/tuning/parameters.ts';
import { compile, disposeTree } from '../../learning/compile/index.ts';
import type { DecoderConfig } from '../../learning/decoder/config.ts';
import { flatLogits } from '../../learning/decoder/forward.ts';
import { crossEntropy } from '../../learning/decoder/loss.ts';
import { initialWeights } from '../../learning/decoder/weights.ts';
import { update, usualAdam, zeroState } from '../../learning/dp/optimisers.ts';
import { encodeRecord, type EncodedRecord, type MicrobatchShape } from '../../learning/dp/sequences.ts';
import { Trainer } from '../../learning/dp/trainer.ts';
import type { Schedule } from '../../learning/schedule.ts';
import { callsAtOnce, machine } from '../../learning/machine.ts';
import { tf, type Tensor } from '../../learning/tensorflow.ts';
import { seededStream } from '../../privacy/noise.ts';
import { wholeBatches } from './mechanism.ts';
import { localArm, type Arm } from './turns.ts';

export interface TrainingWork {
  config: DecoderConfig;
  tuned: TunedShape;
  /** Examples of a logical batch, all of `time` predicted tokens. */
  batch: number;
  time: number;
  /** Examples of a microbatch. */
  rows: number;
}

export type LoraWork = TrainingWork & { tuned: LoraShape };

/** Random weights of a decoder. */
export function madeUpWeights(config: DecoderConfig): Record<string, Tensor> {
  const stream = seededStream(1, 'bench weights');
  return initialWeights(config, (out, deviation) => stream.fillGaussian(out, deviation));
}

/** As many records as a batch has, each of full length. */
function madeUpRecords({ config, batch, time }: TrainingWork): EncodedRecord[] {
  const stream = seededStream(2, 'bench records');
  const token = (): number => Math.floor(stream.uniform() * config.vocab);
  return Array.from({ length: batch }, () => {
    const text = Int32Array.from({ length: time }, token);
    return encodeRecord({ bosId: 0, eosId: 0, prefix: new Int32Array(0), text, label: 0 }, time);
  });
}

/** Whole steps by the trainer that the finetune step uses: drawing, gradients, noise, Adam. */
export function trainerArm(
  name: string,
  work: TrainingWork,
  weights: Record<string, Tensor>,
  arithmetic: 'exact' | 'float' | 'unbounded',
  say: (text: string) => void,
): Arm & { dispose(): void } {
  const { config, tuned, batch, rows, time } = work;
  const layout: MicrobatchShape[] = [{ rows, time }];
  const schedule: Schedule = { lr: 1e-3, warmup: 0, decay: 'constant', finalLr: 1, steps: 0 };
  const trainer = new Trainer(
    {
      ...{
        config,
        tuned,
        optimizer: usualAdam,
        schedule,
        layout,
        atOnce: callsAtOnce(),
        padId: 0,
        machine: machine(),
        base: null,
        mechanism: arithmetic === 'unbounded' ? { kind: 'unbounded' } : wholeBatches(batch, arithmetic),
      },
      unboundedBatch: { samplingProbability: 1, expectedBatchSize: batch, seed: 1 },
      secret: arithmetic === 'unbounded' ? null : { key: Buffer.alloc(32, 1), nodeKey: 'bench' },
    },
    weights,
    madeUpRecords(work),
  );
  const stream = seededStream(3, 'bench adapter');
  const start = tuned.kind === 'full' ? weights : {};
  const given = Object.entries(start).map(([name, tensor]) => [name, tensor.dataSync()] as const);
  const values = initialValues(trainer.parameters, Object.fromEntries(given) as Record<string, Float32Array>, () =>
    stream.uniform(),
  );
  const state = { step: 0, values, ...zeroState(values) };
  const oneStep = async (): Promise<void> => {
    schedule.steps = state.step + 1;
    await trainer.train(state, {
      beforeStep: () => Promise.resolve(),
      between: () => Promise.resolve(),
      afterStep: () => Promise.resolve(),
      compiling: async (shape) => say(`  ${name}: compiling ${shape.rows} x ${shape.time}`),
    });
  };
  return { ...localArm(name, oneStep), dispose: () => trainer.dispose() };
}

/** The engine's step without any trace of DP: one gradient for all examples of a microbatch. */
export function plainArm(name: string, work: LoraWork, weights: Record<string, Tensor>): Arm & { dispose(): void } {
  const { config, tuned, batch, rows, time } = work;
  const parameters = trainedParameters(config, tuned);
  const stream = seededStream(3, 'bench adapter');
  const values = initialValues(parameters, {}, () => stream.uniform());
  const state = { values, ...zeroState(values) };
  type Inputs = { weights: Record<string, Tensor>; adapter: Record<string, Tensor>; tokens: Tensor };
  const gradient = ({ weights, adapter: tensors, tokens }: Inputs): { loss: Tensor; grads: Tensor[] } => {
    const loss = (...list: Tensor[]): Tensor => {
      const own = Object.fromEntries(parameters.map(({ name }, index) => [name, list[index] as Tensor]));
      const adapt = loraHook(tuned, own);
      const logits = flatLogits(config, weights, tokens.slice([0, 0], [rows, time]), { adapt });
      const targets = tokens.slice([0, 1], [rows, time]).reshape([rows * time]);
      return crossEntropy(logits, targets, tf.fill([rows * time], 1 / time)).sum();
    };
    const { value, grads } = tf.valueAndGrads(loss as never)(parameters.map(({ name }) => tensors[name] as Tensor));
    return { loss: value as Tensor, grads };
  };
  const upload = (): Record<string, Tensor> =>
    Object.fromEntries(parameters.map(({ name, shape }) => [name, tf.tensor(state.values[name]!, shape) as Tensor]));
  const records = madeUpRecords(work);
  const tokensFrom = (first: number): Tensor => {
    const flat = Array.from({ length: rows }, (_, row) => [...records[(first + row) % batch]!.tokens]).flat();
    return tf.tensor2d(flat, [rows, time + 1], 'int32');
  };
  const example = { weights, adapter: upload(), tokens: tokensFrom(0) };
  const program = compile(gradient, example, { atOnce: callsAtOnce() });
  disposeTree([example.adapter, example.tokens]);
  let step = 0;
  const oneStep = (): void => {
    const tensors = upload();
    const sums = parameters.map(({ name }) => new Float64Array(values[name]!.length));
    const microbatches = Array.from({ length: batch / rows }, (_, index) => tokensFrom(index * rows));
    const results = program.all(microbatches.map((tokens) => ({ weights, adapter: tensors, tokens })));
    for (const { grads } of results) {
      grads.forEach((tensor, index) => {
        const [sum, part] = [sums[index]!, tensor.dataSync()];
        for (let at = 0; at < sum.length; at += 1) sum[at]! += part[at]! / batch;
      });
    }
    disposeTree([microbatches, results]);
    disposeTree(tensors);
    parameters.forEach(({ name }, index) => {
      const [own, first, second] = [state.values[name]!, state.first[name]!, state.second[name]!];
      update(usualAdam, { values: own, first, second }, sums[index]!, { step, rate: 1e-3, decays: false });
    });
    step += 1;
  };
  return { ...localArm(name, oneStep), dispose: () => program.dispose() };
}
