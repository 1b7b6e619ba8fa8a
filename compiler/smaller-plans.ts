/**
 * @file Searches the changes of a plan that a budget admits: lower epsilons (more noise), fewer seeds, fewer epsilons.
 * Few plans are judged, since each may hold thousands of instances: all searches halve or follow the secant.
 */

import type { MechanismEvent } from '../privacy/accounting/index.ts';
import { mechanismEvent } from '../privacy/ledger/admission.ts';
import { sealMechanism } from '../privacy/ledger/receipt.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { NodeCharge, PlanDataset, PlanNode } from '../schemas/plan.ts';
import { chargesTo } from './accounts.ts';
import type { AccountRequest, CompileHost, PendingCharge } from './host.ts';

/** What the rule says of some charges. */
export interface Verdict {
  admitted: boolean;
  /** The epsilon that is held against the budget; null when unbounded. */
  epsilon: number | null;
}

export type Judge = (pending: readonly PendingCharge[]) => Promise<Verdict>;

/** A change of the spec that fits the budget, and the epsilon that the rule would then count. */
export type PlanChange = { epsilon: number } & (
  | { change: 'lower-epsilon'; epsilons: { from: number; to: number }[] }
  /** The first seeds are kept. */
  | { change: 'fewer-seeds'; axis: string; keep: AxisLabel[]; drop: AxisLabel[] }
  | { change: 'fewer-epsilons'; axis: string; drop: AxisLabel[] }
);

type AxisLabel = string | number;

/** Noise is raised to at most this multiple. */
const MOST_NOISE = 1000;
/** Relative width to which the multiple of noise is narrowed down: epsilons are then given in three digits. */
const NOISE_TOLERANCE = 2e-3;
/** Times that epsilons are lowered by their last digit where rounding left them too high. */
const MOST_CORRECTIONS = 5;
/** More epsilons than this are dropped from the largest on, without a look at each alone. */
const FEW_VALUES = 8;

/** All changes of the matrix that fit, those that lose fewest instances first. */
export async function smallerPlans(
  { account, dataset, pending }: AccountRequest,
  budget: number,
  nodes: readonly PlanNode[],
  judge: Judge,
  host: CompileHost,
): Promise<PlanChange[]> {
  const without = (axis: string, dropped: ReadonlySet<AxisLabel>): PendingCharge[] =>
    chargesTo(
      account,
      nodes.filter(({ axes }) => axes[axis] === undefined || !dropped.has(axes[axis])),
    ).filter(({ node }) => node.cached !== true);

  const found = [
    await lowerEpsilons(pending, dataset, budget, judge, host),
    await fewerSeeds(pending, without, judge),
    await fewerEpsilons(pending, without, judge),
  ].filter((change) => change !== null);
  return found;
}

/** Values of an axis in the order of the plan. */
const valuesOf = (pending: readonly PendingCharge[], axis: string): AxisLabel[] => [
  ...new Set(pending.flatMap(({ node }) => node.axes[axis] ?? [])),
];

/** The axis, of two values or more, that `plays` the part wherever a charged node has it. */
function axisOf(
  pending: readonly PendingCharge[],
  plays: (node: PlanNode, value: AxisLabel) => boolean,
): string | null {
  const names = new Set(pending.flatMap(({ node }) => Object.keys(node.axes)));
  for (const name of names) {
    if (pending.every(({ node }) => node.axes[name] === undefined || plays(node, node.axes[name]))) {
      if (valuesOf(pending, name).length > 1) return name;
    }
  }
  return null;
}

type Without = (axis: string, dropped: ReadonlySet<AxisLabel>) => PendingCharge[];

/** As many of the first seeds as fit. */
async function fewerSeeds(
  pending: readonly PendingCharge[],
  without: Without,
  judge: Judge,
): Promise<PlanChange | null> {
  const axis = axisOf(pending, ({ params }, value) => (params as { seed?: unknown }).seed === value);
  if (axis === null) return null;
  const values = valuesOf(pending, axis);
  let best: PlanChange | null = null;
  let fits = 0;
  let refused = values.length;
  while (refused - fits > 1) {
    const kept = Math.floor((fits + refused) / 2);
    const drop = values.slice(kept);
    const { admitted, epsilon } = await judge(without(axis, new Set(drop)));
    if (admitted && epsilon !== null) {
      fits = kept;
      best = { change: 'fewer-seeds', axis, keep: values.slice(0, kept), drop, epsilon };
    } else {
      refused = kept;
    }
  }
  return best;
}

/** One epsilon less, the one that leaves most; where no single one is enough as few of the largest as will do. */
async function fewerEpsilons(
  pending: readonly PendingCharge[],
  without: Without,
  judge: Judge,
): Promise<PlanChange | null> {
  const axis = axisOf(pending, ({ privacy }, value) => privacy === undefined || privacy.targetEpsilon === value);
  if (axis === null) return null;
  const size = (value: AxisLabel): number => (typeof value === 'number' ? value : Infinity);
  const values = valuesOf(pending, axis).sort((a, b) => size(a) - size(b));
  const attempt = async (drop: AxisLabel[]): Promise<PlanChange | null> => {
    const { admitted, epsilon } = await judge(without(axis, new Set(drop)));
    return admitted && epsilon !== null ? { change: 'fewer-epsilons', axis, drop, epsilon } : null;
  };
  if (values.length <= FEW_VALUES) {
    for (const value of values) {
      const change = await attempt([value]);
      if (change !== null) return change;
    }
  }
  let best: PlanChange | null = null;
  let refused = 0;
  let fits = values.length;
  while (fits - refused > 1) {
    const dropped = Math.floor((fits + refused) / 2);
    const change = await attempt(values.slice(values.length - dropped));
    if (change !== null) {
      fits = dropped;
      best = change;
    } else {
      refused = dropped;
    }
  }
  return best;
}

/** A charge with `factor` times the noise. */
function noisier(charge: NodeCharge, factor: number, dataset: PlanDataset): NodeCharge {
  const { mechanism } = charge;
  if (mechanism.kind === 'unbounded') return charge;
  const changed =
    mechanism.kind === 'discrete-laplace'
      ? { ...mechanism, scale: mechanism.scale * factor }
      : { ...mechanism, noiseMultiplier: mechanism.noiseMultiplier * factor };
  return {
    ...charge,
    mechanism: changed,
    digest: sealMechanism({ digest: dataset.digest, delta: charge.delta }, changed),
  };
}

/** A charge planned for another epsilon. */
function atEpsilon(charge: NodeCharge, targetEpsilon: number, dataset: PlanDataset, host: CompileHost): NodeCharge {
  const { mechanism, delta } = charge;
  if (mechanism.kind === 'unbounded') return charge;
  if (mechanism.kind === 'discrete-laplace') return noisier(charge, 1 / (targetEpsilon * mechanism.scale), dataset);
  const { samplingProbability, steps } = mechanism;
  const { noiseMultiplier } = host.calibrate({ targetEpsilon, delta, samplingProbability, steps });
  return noisier(charge, noiseMultiplier / mechanism.noiseMultiplier, dataset);
}

/** Every charge changed alike; charges that many nodes share are changed once. */
function mapCharges(
  pending: readonly PendingCharge[],
  change: (charge: NodeCharge) => NodeCharge,
): { changed: PendingCharge[]; byCharge: Map<NodeCharge, NodeCharge> } {
  const byCharge = new Map<NodeCharge, NodeCharge>();
  const changed = pending.map(({ node, charge }) => {
    const known = byCharge.get(charge) ?? change(charge);
    byCharge.set(charge, known);
    return { node, charge: known };
  });
  return { changed, byCharge };
}

/** Down to three digits. */
function threeDigits(value: number): number {
  const unit = 10 ** (Math.floor(Math.log10(value)) - 2);
  return Number((Math.floor(value / unit) * unit).toPrecision(3));
}

/** The least multiple of all noise that fits; null when none does. */
async function leastNoise(
  pending: readonly PendingCharge[],
  dataset: PlanDataset,
  budget: number,
  judge: Judge,
): Promise<number | null> {
  const excess = async (factor: number): Promise<number> => {
    const { admitted, epsilon } = await judge(
      mapCharges(pending, (charge) => noisier(charge, factor, dataset)).changed,
    );
    if (epsilon === null) return Infinity;
    const value = Math.log(epsilon / budget);
    return admitted ? Math.min(0, value) : Math.max(value, 1e-9);
  };
  let low = 1;
  let atLow = await excess(1);
  if (atLow === Infinity) return null;
  let high = low;
  let atHigh = atLow;
  while (atHigh > 0) {
    low = high;
    atLow = atHigh;
    // Epsilon falls at least as fast as noise grows, where it is small.
    high *= Math.max(1.01, 1.02 * Math.exp(atHigh));
    if (high > MOST_NOISE) return null;
    atHigh = await excess(high);
  }
  while (high / low > 1 + NOISE_TOLERANCE) {
    const secant = Number.isFinite(atHigh) ? atLow / (atLow - atHigh) : 0.5;
    // Kept off both ends, so that the bracket shrinks.
    const part = Math.min(0.9, Math.max(0.1, secant));
    const factor = low * (high / low) ** part;
    const value = await excess(factor);
    if (value > 0) [low, atLow] = [factor, value];
    else [high, atHigh] = [factor, value];
  }
  return high;
}

/** All epsilons lowered by the same multiple of noise, in three digits. */
async function lowerEpsilons(
  pending: readonly PendingCharge[],
  dataset: PlanDataset,
  budget: number,
  judge: Judge,
  host: CompileHost,
): Promise<PlanChange | null> {
  if (pending.some(({ charge }) => charge.mechanism.kind === 'unbounded')) return null;
  const factor = await leastNoise(pending, dataset, budget, judge);
  if (factor === null) return null;
  const { byCharge } = mapCharges(pending, (charge) => noisier(charge, factor, dataset));
  const epsilons = new Map<number, number>();
  for (const [{ targetEpsilon, delta }, noisy] of byCharge) {
    const events: MechanismEvent[] = [mechanismEvent(noisy.mechanism) ?? []].flat();
    const own = threeDigits(host.compose(events, delta).epsilon);
    if (targetEpsilon === 'inf' || own <= 0) return null;
    epsilons.set(targetEpsilon, Math.min(own, epsilons.get(targetEpsilon) ?? targetEpsilon));
  }
  for (let attempt = 0; attempt <= MOST_CORRECTIONS; attempt += 1) {
    try {
      const { changed } = mapCharges(pending, (charge) =>
        atEpsilon(charge, epsilons.get(charge.targetEpsilon as number)!, dataset, host),
      );
      const { admitted, epsilon } = await judge(changed);
      if (admitted && epsilon !== null) {
        return { change: 'lower-epsilon', epsilons: [...epsilons].map(([from, to]) => ({ from, to })), epsilon };
      }
    } catch (error) {
      // No noise in range reaches such an epsilon.
      if (error instanceof EpsilonflowError && error.code === 'ARGUMENT_INVALID') return null;
      throw error;
    }
    for (const [from, to] of epsilons) epsilons.set(from, threeDigits(to * (1 - 1e-3)));
  }
  return null;
}
