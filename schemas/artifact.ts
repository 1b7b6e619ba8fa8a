/** @file A finished artifact of the store: what its manifest says, and how later steps get to see it. */

import type { NodeCharge, StepKind } from './plan.ts';

export interface ArtifactManifest {
  key: string;
  kind: StepKind;
  label: 'public' | 'dp' | 'non-private';
  sensitivity: 'public' | 'benchmark' | 'private';
  nodeId: string;
  axes: Record<string, string | number>;
  /** Relative path -> size and sha256. */
  files: Record<string, { bytes: number; sha256: string }>;
  /** Numbers that the step reports at its end. */
  metrics: Record<string, number>;
  /** Anything else, small, that later steps read. */
  summary: Record<string, unknown>;
  /** Epsilon and delta behind the content, by dataset; empty when public. */
  privacy: NodeCharge[];
  /** Private nodes: the ledger entries that pay for the content, and what the step really did, in the plan's order. */
  charges?: ArtifactCharge[];
  /** Ids of all ledger entries behind the content, its own and those of what it was made from; sorted. */
  paidBy?: string[];
  createdAt: string;
}

export interface ArtifactCharge {
  /** Identity of the ledger entry. */
  entryId: string;
  workflowId: string;
  /** Name of the account that pays. */
  dataset: string;
  nodeKey: string;
  mechanismDigest: string;
  /** Null when the mechanism is unbounded. */
  proof: MechanismProof | null;
}

/** What a step really did; compared with the reservation at commit. All of it is public. */
export type MechanismProof = TrainingProof | ReleaseProof;

export interface TrainingProof {
  samplingProbability: number;
  noiseMultiplier: number;
  clipNorm: number;
  expectedBatchSize: number;
  arithmetic: 'exact' | 'float';
  steps: number;
  sampler: 'poisson';
}

/** A table of counts was released once, with noise on each cell. */
export interface ReleaseProof {
  sampler: 'none';
  scale: number;
  sensitivity: 1;
}

/** A finished artifact in the store, opened for reading. */
export interface OpenedArtifact {
  nodeId: string;
  key: string;
  /** Folder with the artifact's files. */
  directory: string;
  manifest: ArtifactManifest;
}
