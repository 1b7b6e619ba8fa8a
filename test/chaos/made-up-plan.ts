/** @file A plan of small private steps, of which experiments on one account take some. */

import { rowsOf, sealMechanism, type DatasetRegistration } from '../../privacy/ledger/index.ts';
import { jsonDigest } from '../../schemas/canonical-json.ts';
import { planDigest } from '../../schemas/plan-digest.ts';
import type { DiscreteLaplaceMechanism, Plan, PlanNode, PoissonGaussianMechanism } from '../../schemas/plan.ts';

export const dataset = 'people';
export const delta = 1e-5;
export const records = 60;

const training = (steps: number): PoissonGaussianMechanism => ({
  kind: 'poisson-gaussian',
  samplingProbability: 0.2,
  noiseMultiplier: 1.2,
  steps,
  clipNorm: 0.5,
  expectedBatchSize: 12,
  arithmetic: 'exact',
});

const releasing: DiscreteLaplaceMechanism = { kind: 'discrete-laplace', scale: 4, sensitivity: 1 };

/** Steps of each experiment: the first is trained and tested on private data, the second only trained. */
export const shapes = [
  { steps: 4, releases: true },
  { steps: 3, releases: false },
] as const;

const digest = jsonDigest('made-up records');

export type ChaosNode = PlanNode<'train-classifier'>;

function node(pair: number, place: number): ChaosNode {
  const { steps, releases } = shapes[place]!;
  const charge = { dataset, targetEpsilon: 1, epsilon: null, delta, accountant: 'pld' } as const;
  const seal = (mechanism: PoissonGaussianMechanism | DiscreteLaplaceMechanism): string =>
    sealMechanism({ digest, delta }, mechanism);
  const id = `step-${place + 1}[seed=${pair}]`;
  return {
    id,
    slug: `step-${place + 1}-${pair}`,
    step: `step-${place + 1}`,
    kind: 'train-classifier',
    kindVersion: 1,
    key: jsonDigest(id),
    axes: { seed: pair },
    params: { seed: pair },
    inputs: { train: { dataset }, test: { dataset } },
    needs: [],
    label: 'dp',
    sensitivity: 'private',
    waivers: [],
    position: { file: 'chaos.yaml', line: 1, column: 1 },
    cached: null,
    privacy: { ...charge, mechanism: training(steps), digest: seal(training(steps)) },
    ...(releases && { release: { ...charge, mechanism: releasing, digest: seal(releasing) } }),
  } as unknown as ChaosNode;
}

/** Ids of the nodes of one experiment. */
export const nodesOf = (pair: number): string[] => shapes.map((_, place) => node(pair, place).id);

/** @param budget epsilon of each of the two accounts */
export function planWith(budget: number, pairs: number): Plan {
  const nodes = Array.from({ length: pairs }, (_, pair) => shapes.map((_, place) => node(pair, place))).flat();
  const split = (name: string): { path: string; format: 'jsonl'; compression: 'none' } => ({
    path: `/nowhere/${name}.jsonl`,
    format: 'jsonl',
    compression: 'none',
  });
  const plan: Plan = {
    planVersion: 1,
    name: 'chaos',
    digest: '',
    spec: { file: 'chaos.yaml', profile: null },
    failure: 'fail-fast',
    waivers: [],
    datasets: {
      [dataset]: {
        name: dataset,
        files: { train: split('train'), test: split('test') },
        text: 'text',
        label: { column: 'label', values: ['cold', 'warm'] },
        sensitivity: 'private',
        privacy: { unit: 'record', size: records, counted: false, delta, budget: { epsilon: budget } },
        digest,
      },
    },
    models: {},
    nodes,
    privacy: {},
  };
  return { ...plan, digest: planDigest(plan) };
}

export function registrations(secret: Buffer): DatasetRegistration[] {
  const rows = (split: string): DatasetRegistration['rows'] =>
    rowsOf(
      Array.from({ length: records }, (_, row) => `${split} record ${row}`),
      secret,
    );
  return [
    { dataset, digest, benchmark: false, rows: rows('train') },
    { dataset: `${dataset}/test`, digest, benchmark: false, rows: rows('test') },
  ];
}
