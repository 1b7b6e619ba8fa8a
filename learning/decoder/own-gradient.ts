/** @file Functions whose gradient is written down instead of left to the tape: it reads, and keeps, less. */

import { tf, type Tensor } from '../tensorflow.ts';

export interface OwnGradient<I extends Tensor[], S extends readonly Tensor[]> {
  /** The value, and what `backward` reads. Tensors that neither names are freed. */
  forward(...inputs: I): { value: Tensor; saved: S };
  /** Gradients by the inputs, in their order. @param dy gradient by the value */
  backward(dy: Tensor, saved: S): Tensor[];
}

/** Applies such a function. No gradient flows to tensors that it takes from elsewhere. */
export function withOwnGradient<I extends Tensor[], const S extends readonly Tensor[]>(
  inputs: [...I],
  { forward, backward }: OwnGradient<NoInfer<I>, S>,
): Tensor {
  const compute = tf.customGrad((...args) => {
    const save = args.pop() as unknown as (tensors: readonly Tensor[]) => void;
    const { value, saved } = forward(...(args as unknown as I));
    save(saved);
    return { value, gradFunc: (dy: Tensor, kept: Tensor[]) => backward(dy, kept as unknown as S) };
  });
  return compute(...inputs);
}
