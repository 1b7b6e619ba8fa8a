/** @file Adam on parts of a vector of weights: a weight and its moments move only in steps that name it. */

/** Adam's constants (Kingma & Ba 2015, section 2). */
const beta1 = 0.9;
const beta2 = 0.999;
const stabiliser = 1e-8;

export class SparseAdam {
  private readonly weights: Float32Array;
  private readonly lr: number;
  private readonly first: Float32Array;
  private readonly second: Float32Array;
  private rate = 0;
  private steps = 0;

  constructor(weights: Float32Array, lr: number) {
    this.weights = weights;
    this.lr = lr;
    this.first = new Float32Array(weights.length);
    this.second = new Float32Array(weights.length);
  }

  /** Begins the next step. */
  begin(): void {
    this.steps += 1;
    this.rate = (this.lr * Math.sqrt(1 - beta2 ** this.steps)) / (1 - beta1 ** this.steps);
  }

  /** Moves the weights from `start` on by their gradient, `length` numbers of `gradient` from `from` on. */
  update(start: number, gradient: ArrayLike<number>, from: number, length: number): void {
    const { weights, first, second, rate } = this;
    for (let index = 0; index < length; index++) {
      const g = gradient[from + index]!;
      const at = start + index;
      const m = (first[at] = beta1 * first[at]! + (1 - beta1) * g);
      const v = (second[at] = beta2 * second[at]! + (1 - beta2) * g * g);
      weights[at]! -= (rate * m) / (Math.sqrt(v) + stabiliser);
    }
  }
}
