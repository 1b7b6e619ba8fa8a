/** @file What the compiler knows of each step kind beside its schema: version, inputs and what they may be. */

import type { StepKind } from '../schemas/plan.ts';

export type InputKind = 'dataset' | 'model' | StepKind;

interface KindInfo {
  /** Part of every content key: raise it when the same parameters and inputs would give another result. */
  version: number;
  inputs: Record<string, { accepts: readonly InputKind[]; split?: 'train' | 'test'; labelled?: boolean }>;
}

export const kinds: Record<StepKind, KindInfo> = {
  decontaminate: {
    version: 1,
    inputs: { corpus: { accepts: ['dataset'], split: 'train' }, against: { accepts: ['dataset'] } },
  },
  pretrain: { version: 3, inputs: { corpus: { accepts: ['dataset', 'decontaminate'], split: 'train' } } },
  finetune: {
    version: 8,
    inputs: {
      model: { accepts: ['model', 'pretrain'] },
      data: { accepts: ['dataset'], split: 'train', labelled: true },
    },
  },
  generate: { version: 5, inputs: { generator: { accepts: ['finetune'] } } },
  'train-classifier': {
    version: 4,
    inputs: {
      model: { accepts: ['model', 'pretrain'] },
      train: { accepts: ['dataset', 'generate'], split: 'train', labelled: true },
      test: { accepts: ['dataset'], split: 'test', labelled: true },
    },
  },
  measure: {
    version: 2,
    inputs: {
      synthetic: { accepts: ['generate', 'dataset'], split: 'train' },
      real: { accepts: ['dataset'], split: 'test' },
      model: { accepts: ['model', 'pretrain'] },
      encoder: { accepts: ['model'] },
    },
  },
  audit: {
    version: 1,
    inputs: {
      synthetic: { accepts: ['generate'] },
      // Those of the synthetic set.
      data: { accepts: ['dataset'], split: 'train', labelled: true },
    },
  },
  compare: {
    version: 1,
    inputs: { arms: { accepts: ['train-classifier'] }, ceiling: { accepts: ['train-classifier'] } },
  },
};
