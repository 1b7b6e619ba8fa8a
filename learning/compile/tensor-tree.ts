/** @file Nested records and arrays of tensors, and their flattening into named leaves in a fixed order. */

import { tf, type Tensor } from '../tensorflow.ts';

export type TensorTree = Tensor | readonly TensorTree[] | { readonly [name: string]: TensorTree };

export interface Leaf {
  /** `weights.model.norm.weight`, `cache.keys.0` ... */
  path: string;
  tensor: Tensor;
}

/** Leaves in the order of the tree's own keys. */
export function leavesOf(tree: TensorTree, path = ''): Leaf[] {
  if (tree instanceof tf.Tensor) return [{ path: path || 'value', tensor: tree }];
  if (tree === null || typeof tree !== 'object' || tree instanceof Promise) {
    throw new TypeError(`${path || 'value'} is not a tensor`);
  }
  return Object.entries(tree).flatMap(([key, child]) => leavesOf(child as TensorTree, path ? `${path}.${key}` : key));
}

/** A tree of the same form with other tensors, taken from `tensors` in the order of `leavesOf`. */
export function rebuild<T extends TensorTree>(form: T, tensors: readonly Tensor[]): T {
  let next = 0;
  const build = (node: TensorTree): TensorTree => {
    if (node instanceof tf.Tensor) return tensors[next++] as Tensor;
    if (Array.isArray(node)) return node.map(build);
    return Object.fromEntries(Object.entries(node).map(([key, child]) => [key, build(child as TensorTree)]));
  };
  return build(form) as T;
}

/** Disposes every tensor of a tree. */
export function disposeTree(tree: TensorTree): void {
  for (const { tensor } of leavesOf(tree)) tensor.dispose();
}
