/**
 * @file Clipped sums of the examples' gradients of all weights, from one forward and one backward pass (book-keeping,
 * Bu et al. 2023, arXiv:2210.00038). An example's gradient of a matrix is made only where it takes no more memory than
 * what it is made of.
 *
 * The backward pass hands out what each layer's gradient consists of: its input x and the gradient dy of its output. The
 * gradient of a matrix is sum_t dy_t x_t^T for an example, so its squared norm is the sum over t, t' of (x_t . x_t')
 * (dy_t . dy_t') (the ghost norm, Goodfellow 2015, arXiv:1510.01799), and the clipped sum over examples is one product
 * in which each dy is scaled by its example's clip factor.
 */

import type { Layers } from '../decoder/blocks.ts';
import { embeddingName, positionsName, tableNames, type ModelConfig } from '../decoder/config.ts';
import { positionTable, segmentTable } from '../encoder/config.ts';
import { linear, rowSums } from '../decoder/layers.ts';
import { withOwnGradient } from '../decoder/own-gradient.ts';
import { weight, type Weights } from '../decoder/weights.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import { tunedWeights, type TunedShape } from '../tuning/parameters.ts';

/** What one use of a weight adds to the gradient. */
export type Book =
  /** Matrix [out, in]: x [rows, time, in], dy [rows, time, out]. */
  | { kind: 'linear'; x: Tensor; dy: Tensor }
  /** The same as gradients of the examples, [rows, out, in] or transposed; `error`: of their squared norms, [rows]. */
  | { kind: 'matrix'; own: Tensor; isTransposed: boolean; error: Tensor }
  /** Gradient of a gain or a bias for each example: [rows, width]. */
  | { kind: 'vector'; own: Tensor }
  /** Gradient of the rows that ids [rows, time] select: dy [rows, time, dim]. */
  | { kind: 'embedding'; ids: Tensor; dy: Tensor };

interface Place {
  kind: Exclude<Book['kind'], 'matrix'>;
  weight: string;
  /** Shapes of what the backward pass hands out. */
  shapes: number[][];
}

/** Every use of a weight by the model. A tied matrix is used twice. */
function placesOf(config: ModelConfig, tuned: Pick<TunedShape, 'head'>, rows: number, time: number): Place[] {
  const length = rows * time;
  const places = Object.entries(tunedWeights(config, tuned)).map(([name, shape]): Place => {
    const [first, second] = shape as [number, number];
    if (shape.length === 1) return { kind: 'vector', weight: name, shapes: [[rows, first]] };
    if (tableNames(config).includes(name)) return { kind: 'embedding', weight: name, shapes: [[length, second]] };
    return { kind: 'linear', weight: name, shapes: [second, first].map((width) => [length, width]) };
  });
  const head = [config.dim, config.vocab].map((width) => [length, width]);
  return hasTiedHead(config, tuned)
    ? [...places, { kind: 'linear', weight: embeddingName(config), shapes: head }]
    : places;
}

/** Whether the embedding matrix gives the logits of the tokens too. */
const hasTiedHead = (config: ModelConfig, { head }: Pick<TunedShape, 'head'>): boolean =>
  !head && config.family !== 'bert' && config.tied;

/** What is read of a table [rows, time]. @param tokens [rows, time], -1 for padding of an encoder */
function idsOf(config: ModelConfig, table: string, tokens: Tensor): Tensor {
  const [rows, time] = tokens.shape as [number, number];
  if (table === segmentTable) return tf.zerosLike(tokens);
  if (table !== positionsName && table !== positionTable) {
    return config.family === 'bert' ? tf.maximum(tokens, tf.scalar(0, 'int32')) : tokens;
  }
  const first = config.family === 'bert' ? config.firstPosition : 0;
  const steps = tf.range(0, time, 1, 'int32').add(tf.scalar(first, 'int32'));
  return tf.tile(steps.reshape([1, time]), [rows, 1]);
}

type Slots = (kind: Place['kind'], name: string) => Tensor[];

/** Layers of which the "gradients" for the slots, which are never read, are the contents of the books. */
function bookLayers(weights: Weights, rows: number, slots: Slots): Layers {
  /** Sum over an example's positions: [rows * time, width] -> [rows, width]. */
  const byExample = (flat: Tensor): Tensor => {
    const width = flat.shape[1] as number;
    return flat.reshape([rows, flat.size / width / rows, width]).sum(1);
  };
  return {
    embed: (name, ids) => {
      // Tables are at the bottom of the network: nothing flows further down.
      const [slot] = slots('embedding', name) as [Tensor];
      return slot.add(tf.gather(weight(weights, name), ids as never));
    },
    linear(name, x) {
      const matrix = weight(weights, name);
      return withOwnGradient([x, ...slots('linear', name)], {
        forward: (x) => ({ value: linear(x, matrix), saved: [x] }),
        backward: (dy, [x]) => [tf.matMul(dy, matrix), x.clone(), dy.clone()],
      });
    },
    gain(name, x) {
      const vector = weight(weights, name);
      return withOwnGradient([x, ...slots('vector', name)], {
        forward: (x) => ({ value: x.mul(vector) as Tensor, saved: [x] }),
        backward: (dy, [x]) => [dy.mul(vector), byExample(dy.mul(x))],
      });
    },
    bias(name, x) {
      const vector = weight(weights, name);
      return withOwnGradient([x, ...slots('vector', name)], {
        forward: (x) => ({ value: x.add(vector) as Tensor, saved: [] }),
        backward: (dy) => [dy.clone(), byExample(dy)],
      });
    },
  };
}

export interface Kept {
  /** [rows] */
  losses: Tensor;
  /** Of all weights. */
  books: Map<string, Book[]>;
  /** Gradients by the other variables. */
  others: Tensor[];
}

/**
 * One forward and one backward pass.
 *
 * @param tokens [rows, time] int32, as the model reads them
 * @param losses [rows] of the examples with the given layers, at the given values of the other variables
 * @param others further variables; row r of each belongs to example r
 */
export function keepBooks(
  config: ModelConfig,
  tuned: Pick<TunedShape, 'head'>,
  weights: Weights,
  tokens: Tensor,
  losses: (layers: Layers, others: readonly Tensor[]) => Tensor,
  others: readonly Tensor[],
): Kept {
  const [rows, time] = tokens.shape as [number, number];
  const places = placesOf(config, tuned, rows, time);
  const starts: number[] = [];
  let count = 0;
  for (const { shapes } of places) {
    starts.push(count);
    count += shapes.length;
  }
  const withSlots = (...list: Tensor[]): Tensor => {
    const slots: Slots = (kind, name) => {
      const index = places.findIndex((place) => place.kind === kind && place.weight === name);
      const start = starts[index] as number;
      return list.slice(start, start + (places[index] as Place).shapes.length);
    };
    return losses(bookLayers(weights, rows, slots), list.slice(count));
  };
  const zeros = places.flatMap(({ shapes }) => shapes.map((shape) => tf.zeros(shape) as Tensor));
  const { value, grads } = tf.valueAndGrads(withSlots as never)([...zeros, ...others], tf.ones([rows]) as never);
  const books = new Map<string, Book[]>();
  const isTied = hasTiedHead(config, tuned);
  places.forEach(({ kind, weight: name }, index) => {
    const [first, second] = grads.slice(starts[index]) as [Tensor, Tensor];
    const byExample = (flat: Tensor): Tensor => flat.reshape([rows, time, flat.shape[1] as number]);
    const book: Book =
      kind === 'vector'
        ? { kind, own: first }
        : kind === 'embedding'
          ? { kind, ids: idsOf(config, name, tokens), dy: byExample(first) }
          : linearBook(byExample(first), byExample(second), isTied && name === embeddingName(config));
    books.set(name, [...(books.get(name) ?? []), book]);
  });
  return { losses: value as Tensor, books, others: grads.slice(count) as Tensor[] };
}

/** [rows, time, width] -> [rows, time, time]: products of an example's vectors with each other. */
const gram = (vectors: Tensor, others: Tensor = vectors): Tensor => tf.matMul(vectors, others, false, true);

/** [rows, ...] -> [rows], added up over one axis after the other: rounding grows with their lengths, not the product. */
function sumEach(values: Tensor): Tensor {
  const width = values.shape.at(-1) as number;
  const sums = rowSums(values.reshape([values.size / width, width])).reshape(values.shape.slice(0, -1));
  return sums.rank > 1 ? sumEach(sums) : sums;
}

/** Norms of an example's vectors: [rows, time, width] -> [rows, time]. */
function lengths(vectors: Tensor): Tensor {
  const [rows, time, width] = vectors.shape as [number, number, number];
  return rowSums(vectors.square().reshape([rows * time, width]))
    .sqrt()
    .reshape([rows, time]);
}

/**
 * Sum over positions of |x_t| |dy_t|, [rows]: what the norm would be if nothing cancelled. Rounding errors of the squared
 * norm are in proportion to its square, not to the squared norm itself.
 */
const uncancelled = (book: Book & { kind: 'linear' | 'embedding' }): Tensor =>
  sumEach(book.kind === 'linear' ? lengths(book.x).mul(lengths(book.dy)) : lengths(book.dy));

/**
 * Error of a sum of products in float32 over `count` terms, relative to the sum of their sizes, with independent
 * roundings: 4 sqrt(count) 2^-24 is exceeded with a probability of less than 2 exp(-8) (Higham and Mary 2019, theorem
 * 2.4); sums of several such sums average out further.
 */
const roundingOf = (count: number): number => 4 * Math.sqrt(count) * 2 ** -24;

/** Error of the squared norm of a gradient sum_t dy_t x_t^T, [rows], however it is computed. */
function errorOf(book: Book & { kind: 'linear' }): Tensor {
  const [, time, inputs] = book.x.shape as [number, number, number];
  const outputs = book.dy.shape[2] as number;
  return uncancelled(book)
    .square()
    .mul(roundingOf(inputs + outputs + 2 * time));
}

/** @param asParts whether x and dy are read on their own */
export function linearBook(x: Tensor, dy: Tensor, asParts: boolean): Book {
  const book = { kind: 'linear', x, dy } as const;
  const [, time, inputs] = x.shape as [number, number, number];
  const outputs = dy.shape[2] as number;
  if (asParts || inputs * outputs > time * (inputs + outputs)) return book;
  // The left factor is copied for the product, so that it had better be the narrow one.
  const isTransposed = inputs < outputs;
  const own = isTransposed ? tf.matMul(x, dy, true, false) : tf.matMul(dy, x, true, false);
  return { kind: 'matrix', own, isTransposed, error: errorOf(book) };
}

/** Squared norm [rows] of what a book holds, with its rounding error on top. */
function squaredNorm(book: Book): Tensor {
  if (book.kind === 'vector') {
    const [, width] = book.own.shape as [number, number];
    return sumEach(book.own.square()).mul(1 + roundingOf(width));
  }
  if (book.kind === 'matrix') return sumEach(book.own.square()).add(book.error);
  if (book.kind === 'linear') return sumEach(gram(book.x).mul(gram(book.dy))).add(errorOf(book));
  const { ids, dy } = book;
  const [rows, time, dim] = dy.shape as [number, number, number];
  const same = tf.equal(ids.reshape([rows, time, 1]), ids.reshape([rows, 1, time]));
  const square = sumEach(gram(dy).mul(tf.cast(same, 'float32')));
  return square.add(
    uncancelled(book)
      .square()
      .mul(roundingOf(dim + 2 * time)),
  );
}

/** Scalar product [rows] of both parts of a tied matrix' gradient, as head and as embedding, with its rounding error. */
function crossProduct(head: Book & { kind: 'linear' }, lookup: Book & { kind: 'embedding' }): Tensor {
  const [, time, vocab] = head.dy.shape as [number, number, number];
  const dim = lookup.dy.shape[2] as number;
  const picked = gram(head.dy, tf.oneHot(lookup.ids as never, vocab, 1, 0, 'float32'));
  const error = uncancelled(head)
    .mul(uncancelled(lookup))
    .mul(roundingOf(dim + 2 * time));
  return sumEach(picked.mul(gram(head.x, lookup.dy))).add(error);
}

/** Squared norm [rows] of a weight's whole gradient, rounded up. */
export function squaredNormOf(books: readonly Book[]): Tensor {
  const parts = books.map(squaredNorm);
  const head = books.find((book) => book.kind === 'linear');
  const lookup = books.find((book) => book.kind === 'embedding');
  if (head && lookup) parts.push(crossProduct(head, lookup).mul(2));
  return tf.addN(parts);
}

/** Sum over examples of their gradients times their factors [rows]. Where `counts` is false nothing is read. */
export function weightedSum(book: Book, factors: Tensor, counts: Tensor, shape: number[]): Tensor {
  const rows = factors.size;
  const kept = (values: Tensor): Tensor => {
    const column = [rows, ...values.shape.slice(1).map(() => 1)];
    return tf.where(counts.reshape(column), values, tf.zerosLike(values));
  };
  const scaled = (values: Tensor): Tensor =>
    kept(values.mul(factors.reshape([rows, ...values.shape.slice(1).map(() => 1)])));
  const flat = (values: Tensor): Tensor => {
    const width = values.shape[2] as number;
    return values.reshape([values.size / width, width]);
  };
  if (book.kind === 'vector') return scaled(book.own).sum(0);
  if (book.kind === 'matrix') {
    const sum = scaled(book.own).sum(0) as Tensor;
    return book.isTransposed ? sum.transpose() : sum;
  }
  if (book.kind === 'linear') return tf.matMul(flat(scaled(book.dy)), flat(kept(book.x)), true, false);
  return tf.unsortedSegmentSum(flat(scaled(book.dy)), book.ids.reshape([book.ids.size]) as never, shape[0] as number);
}
