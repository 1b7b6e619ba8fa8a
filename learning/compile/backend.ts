/** @file The parts of tfjs' native backend that capturing hooks into. They are not in its public types. */

import { tf, type Tensor } from '../tensorflow.ts';

/** Identity of a tensor's storage; several tensors may share one. */
export type DataId = object;

export interface OpAttribute {
  name: string;
  type: number;
  value: number | boolean | string | readonly number[] | readonly boolean[];
}

interface NativeBinding {
  readonly TF_ATTR_STRING: number;
  readonly TF_ATTR_INT: number;
  readonly TF_ATTR_FLOAT: number;
  readonly TF_ATTR_BOOL: number;
  readonly TF_ATTR_TYPE: number;
  readonly TF_ATTR_SHAPE: number;
  readonly TF_BOOL: number;
  loadSavedModel(directory: string, tags: string): number;
  deleteSavedModel(id: number): void;
}

export interface NativeBackend {
  readonly binding: NativeBinding;
  executeSingleOutput(op: string, attributes: readonly OpAttribute[], inputs: readonly Tensor[]): Tensor;
  executeMultipleOutputs(
    op: string,
    attributes: readonly OpAttribute[],
    inputs: readonly Tensor[],
    outputs: number,
  ): Tensor[];
  /** Without values the tensor has a shape only. */
  write(values: ArrayLike<number> | null, shape: number[], dtype: string): DataId;
  readSync(dataId: DataId): Float32Array | Int32Array | Uint8Array;
  runSavedModel(
    id: number,
    inputs: readonly Tensor[],
    inputInfos: readonly { name: string; tfDtype: string }[],
    outputNames: readonly string[],
  ): Tensor[];
}

export const nativeBackend = (): NativeBackend => tf.backend() as unknown as NativeBackend;
