/**
 * @file The queue that a step waits in: by the device that it asks for, and where hosts share a store by the private data
 * that it reads, so that only workers that have these data are given it.
 */

import type { Plan, PlanDataset, PlanNode } from '../schemas/plan.ts';

/** What a step reads besides results. */
export type PlannedData = Pick<Plan, 'datasets' | 'models'>;

export interface StepQueue {
  /** Absent for the usual one of its kind. */
  queue?: string;
  /** Names of private datasets that a worker of the queue has; absent for none. */
  reads?: string[];
}

/** @param isShared whether hosts share a store: otherwise the one host has all data */
export function queueOf(plan: Pick<Plan, 'datasets'>, node: PlanNode, isShared: boolean): StepQueue {
  const device = node.device ?? 'cpu';
  const read = isShared ? privateDatasets(plan, node) : [];
  const [data] = dataNames(read).slice(-1);
  if (data === undefined) return device === 'cpu' ? {} : { queue: device };
  return { queue: dataQueue(device, data), reads: read.map(({ name }) => name) };
}

export const dataQueue = (device: string, data: string): string => `${device}.${data}`;

function privateDatasets({ datasets }: Pick<Plan, 'datasets'>, node: PlanNode): PlanDataset[] {
  const names = Object.values(node.inputs).flatMap((input) => ('dataset' in input ? [input.dataset] : []));
  return [...new Set(names)].map((name) => datasets[name]!).filter(({ sensitivity }) => sensitivity === 'private');
}

/**
 * Names of private data by their keyed digests: of each dataset, then of each two, since a step reads two at most. Cut
 * to half their length: whoever finds other data of the same name is refused by the whole digest when the step begins.
 */
export function dataNames(datasets: readonly Pick<PlanDataset, 'digest'>[]): string[] {
  const single = [...new Set(datasets.map(({ digest }) => digest.slice(0, 32)))].sort();
  const pairs = single.flatMap((one, place) => single.slice(place + 1).map((other) => `${one}.${other}`));
  return [...single, ...pairs];
}

/** The same data and models where this host has them; what it does not name stays where the plan says. */
export function located({ datasets, models }: PlannedData, here: readonly PlannedData[]): PlannedData {
  const ownDatasets = here.flatMap((own) => Object.values(own.datasets));
  const ownModels = here.flatMap((own) => Object.values(own.models));
  return {
    datasets: mapValues(datasets, (dataset) => {
      const own = ownDatasets.find(({ digest, sensitivity }) => {
        return digest === dataset.digest && sensitivity === dataset.sensitivity;
      });
      return own ? locatedDataset(dataset, own) : dataset;
    }),
    models: mapValues(models, (model) => {
      const own = ownModels.find(({ digest }) => digest === model.digest);
      return own ? { ...model, path: own.path } : model;
    }),
  };
}

/** Another file of the same records may call its columns otherwise; the order of classes is the plan's. */
const locatedDataset = (dataset: PlanDataset, own: PlanDataset): PlanDataset => ({
  ...dataset,
  files: own.files,
  text: own.text,
  label: dataset.label && { ...dataset.label, column: (own.label ?? dataset.label).column },
});

const mapValues = <T>(record: Record<string, T>, change: (value: T) => T): Record<string, T> =>
  Object.fromEntries(Object.entries(record).map(([name, value]) => [name, change(value)]));
