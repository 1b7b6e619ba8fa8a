/** @file The peer of the learning benchmark: PyTorch, Opacus and transformers in processes of their own. */

import { PeerProcess } from '../peer-process.ts';

// torch's wheel on PyPI needs CUDA's libraries to load, also where there is no card: they come with it.
const pins = [
  'torch==2.12.1',
  'opacus==1.6.0',
  'transformers==4.57.6',
  'numpy==2.2.6',
  'opt_einsum==3.4.0',
  'safetensors==0.8.0',
  'scipy==1.15.3',
  'tokenizers==0.22.2',
  'peft==0.18.1',
  'accelerate==1.12.0',
];

/** PyTorch and what is built on it. */
export const learningEnvironment = { environment: 'learning', pins };

export type PeerRequest = Record<string, unknown>;

export interface PeerAnswer {
  /** Of each step. */
  seconds: number[];
  /** Most memory that the process has held. */
  peakBytes: number;
}

export type LearningPeer = PeerProcess<PeerAnswer>;

export const startPeer = (say: (text: string) => void): Promise<LearningPeer> =>
  PeerProcess.start<PeerAnswer>({ ...learningEnvironment, script: 'learning/peer.py' }, say);
