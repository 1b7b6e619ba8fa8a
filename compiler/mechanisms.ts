/** @file The mechanism of a private node, and what a plan's mechanisms cost together. */

import { mergeEvents, type MechanismEvent } from '../privacy/accounting/index.ts';
import { mechanismEvent } from '../privacy/ledger/admission.ts';
import { sealMechanism } from '../privacy/ledger/receipt.ts';
import type {
  DiscreteLaplaceMechanism,
  Mechanism,
  NodeCharge,
  NodePrivacy,
  PlanDataset,
  PoissonGaussianMechanism,
  TrainingMechanism,
} from '../schemas/plan.ts';
import type { Epsilon } from '../schemas/step-params.ts';
import type { CompileHost } from './host.ts';

/** What DP-SGD is asked to do. */
export interface TrainingRequest {
  epsilon: Epsilon;
  steps: number;
  /** Expected logical batch size, records. */
  batch: number;
  clip: number;
  arithmetic: PoissonGaussianMechanism['arithmetic'];
}

/** Plans the mechanisms of one compilation; each different request is calibrated once. */
export class MechanismPlanner {
  readonly #host: CompileHost;
  readonly #known = new Map<string, NodePrivacy>();
  readonly #releases = new Map<string, NodePrivacy<DiscreteLaplaceMechanism>>();

  constructor(host: CompileHost) {
    this.#host = host;
  }

  /** @throws EpsilonflowError ARGUMENT_INVALID when no noise in range reaches the target. */
  plan(dataset: PlanDataset, request: TrainingRequest): NodePrivacy {
    const { epsilon, steps, batch, clip, arithmetic } = request;
    const key = [dataset.name, epsilon, steps, batch, clip, arithmetic].join('/');
    let privacy = this.#known.get(key);
    if (privacy === undefined) {
      privacy = this.#make(dataset, request);
      this.#known.set(key, privacy);
    }
    return privacy;
  }

  /**
   * Test counts with noise of scale 1 / epsilon: one record moves one cell by one, so the table is epsilon-DP.
   *
   * @throws EpsilonflowError ARGUMENT_INVALID for an epsilon out of the accountant's range.
   */
  release(dataset: PlanDataset, epsilon: number): NodePrivacy<DiscreteLaplaceMechanism> {
    const key = `${dataset.name}/${epsilon}`;
    const release = this.#releases.get(key) ?? this.#makeRelease(dataset, epsilon);
    this.#releases.set(key, release);
    return release;
  }

  #makeRelease(dataset: PlanDataset, epsilon: number): NodePrivacy<DiscreteLaplaceMechanism> {
    const { delta } = dataset.privacy!;
    const mechanism: DiscreteLaplaceMechanism = { kind: 'discrete-laplace', scale: 1 / epsilon, sensitivity: 1 };
    const composed = this.#host.compose([mechanismEvent(mechanism)!], delta);
    return {
      dataset: dataset.name,
      targetEpsilon: epsilon,
      epsilon: Math.min(epsilon, composed.epsilon),
      delta,
      accountant: composed.accountant,
      mechanism,
      digest: sealMechanism({ digest: dataset.digest, delta }, mechanism),
    };
  }

  #make(dataset: PlanDataset, { epsilon, steps, batch, clip, arithmetic }: TrainingRequest): NodePrivacy {
    const { size, delta } = dataset.privacy!;
    if (epsilon === 'inf') {
      const mechanism: TrainingMechanism = { kind: 'unbounded' };
      return {
        dataset: dataset.name,
        targetEpsilon: 'inf',
        epsilon: null,
        delta,
        accountant: 'rdp',
        mechanism,
        digest: sealMechanism({ digest: dataset.digest, delta }, mechanism),
      };
    }
    const samplingProbability = batch / size;
    const noise = this.#host.calibrate({ targetEpsilon: epsilon, delta, samplingProbability, steps });
    const mechanism: TrainingMechanism = {
      kind: 'poisson-gaussian',
      samplingProbability,
      noiseMultiplier: noise.noiseMultiplier,
      steps,
      clipNorm: clip,
      expectedBatchSize: batch,
      arithmetic,
    };
    return {
      dataset: dataset.name,
      targetEpsilon: epsilon,
      epsilon: noise.epsilon,
      delta,
      accountant: noise.accountant,
      mechanism,
      digest: sealMechanism({ digest: dataset.digest, delta }, mechanism),
    };
  }
}

/** The DP mechanisms of some charges, as the accountant takes them. */
export function mechanismEvents(charges: Iterable<NodeCharge>): MechanismEvent[] {
  // Instances share their mechanisms.
  const times = new Map<Mechanism, number>();
  for (const { mechanism } of charges) times.set(mechanism, (times.get(mechanism) ?? 0) + 1);
  return mergeEvents(
    [...times].flatMap(([mechanism, count]) => {
      const event = mechanismEvent(mechanism);
      return event === null ? [] : { ...event, count: event.count * count };
    }),
  );
}
