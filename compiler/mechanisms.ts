/** @file The mechanism of a private node, and what a plan's mechanisms cost together. */

import type { MechanismEvent } from '../privacy/accounting/index.ts';
import { jsonDigest } from '../schemas/canonical-json.ts';
import type { Mechanism, NodePrivacy, PlanDataset, PlanNode } from '../schemas/plan.ts';
import type { Epsilon } from '../schemas/step-params.ts';
import type { CompileHost } from './host.ts';

/** What DP-SGD is asked to do. */
export interface TrainingRequest {
  epsilon: Epsilon;
  steps: number;
  /** Expected logical batch size, records. */
  batch: number;
  clip: number;
}

/** Plans the mechanisms of one compilation; each different request is calibrated once. */
export class MechanismPlanner {
  readonly #host: CompileHost;
  readonly #known = new Map<string, NodePrivacy>();

  constructor(host: CompileHost) {
    this.#host = host;
  }

  /** @throws EpsilonflowError ARGUMENT_INVALID when no noise in range reaches the target. */
  plan(dataset: PlanDataset, request: TrainingRequest): NodePrivacy {
    const key = [dataset.name, request.epsilon, request.steps, request.batch, request.clip].join('/');
    let privacy = this.#known.get(key);
    if (privacy === undefined) {
      privacy = this.#make(dataset, request);
      this.#known.set(key, privacy);
    }
    return privacy;
  }

  #make(dataset: PlanDataset, { epsilon, steps, batch, clip }: TrainingRequest): NodePrivacy {
    const { size, delta } = dataset.privacy!;
    const seal = (mechanism: Mechanism): string => jsonDigest({ dataset: dataset.digest, delta, mechanism });
    if (epsilon === 'inf') {
      const mechanism: Mechanism = { kind: 'unbounded' };
      return {
        dataset: dataset.name,
        targetEpsilon: 'inf',
        epsilon: null,
        delta,
        accountant: 'rdp',
        mechanism,
        digest: seal(mechanism),
      };
    }
    const samplingProbability = batch / size;
    const noise = this.#host.calibrate({ targetEpsilon: epsilon, delta, samplingProbability, steps });
    const mechanism: Mechanism = {
      kind: 'poisson-gaussian',
      samplingProbability,
      noiseMultiplier: noise.noiseMultiplier,
      steps,
      clipNorm: clip,
      expectedBatchSize: batch,
    };
    return {
      dataset: dataset.name,
      targetEpsilon: epsilon,
      epsilon: noise.epsilon,
      delta,
      accountant: noise.accountant,
      mechanism,
      digest: seal(mechanism),
    };
  }
}

/** The DP mechanisms of some nodes, as the accountant takes them. */
export function mechanismEvents(nodes: Iterable<PlanNode>): MechanismEvent[] {
  const events = new Map<string, MechanismEvent>();
  for (const { privacy } of nodes) {
    if (privacy === undefined || privacy.mechanism.kind === 'unbounded') continue;
    const { samplingProbability, noiseMultiplier, steps } = privacy.mechanism;
    const key = `${samplingProbability}/${noiseMultiplier}`;
    const count = (events.get(key)?.count ?? 0) + steps;
    events.set(key, { mechanism: 'poisson-gaussian', samplingProbability, noiseMultiplier, count });
  }
  return [...events.values()];
}
