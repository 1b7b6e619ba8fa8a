/**
 * @file Discrete stand-ins for loss laws. `discretise` is pessimistic ("connect the dots", Doroshenko et al. 2022);
 * `sketch` is only accurate, and chooses tilts, windows and grids.
 */

import { gaussLegendre, type Quadrature } from './gauss-legendre.ts';
import type { LossDensity, LossMeasure } from './loss-measure.ts';

/** Masses at the losses (first + i) * step, and at infinite loss. */
export interface LossGrid {
  count: number;
  step: number;
  first: number;
  masses: Float64Array;
  infinity: number;
}

/** Masses at arbitrary losses. */
export interface LossSketch {
  count: number;
  masses: Float64Array;
  losses: Float64Array;
}

/** Bound of the relative error of every mass: quadrature and round-off of densities. */
export const MASS_ERROR = 1e-13;

const narrowRule = gaussLegendre(2);
const shortRule = gaussLegendre(3);
const panelRule = gaussLegendre(8);

function ruleFor(width: number, panel: number): Quadrature {
  if (width < 1e-3 * panel) return narrowRule;
  return width < 0.2 * panel ? shortRule : panelRule;
}

/** Range of losses at the ends and atoms of a law. */
export function lossRange(measure: LossMeasure): { lowest: number; highest: number } {
  const ends = [measure.loss(measure.from), measure.loss(measure.to), ...measure.atoms.map((atom) => atom.loss)];
  return { lowest: Math.min(...ends), highest: Math.max(...ends) };
}

/**
 * The law with its lowest losses raised to one value, which is pessimistic: as many as add at most exp(logMass) to the
 * mass of the law tilted by `tilt`, whose cumulant is `cumulant`.
 */
export function raiseLowest(measure: LossMeasure, tilt: number, cumulant: number, logMass: number): LossMeasure {
  const harmless = (x: number): boolean => Math.log(measure.below(x)) + tilt * measure.loss(x) - cumulant <= logMass;
  if (!harmless(measure.from)) return measure;
  let low = measure.from;
  let high = measure.to;
  for (let i = 0; i < 40; i += 1) {
    const middle = (low + high) / 2;
    if (harmless(middle)) low = middle;
    else high = middle;
  }
  const lowest = measure.loss(low);
  const atoms = measure.atoms.map((atom) => (atom.loss < lowest && raisable(atom) ? { ...atom, loss: lowest } : atom));
  return { ...measure, from: low, atoms };

  function raisable(atom: { mass: number }): boolean {
    return Math.log(atom.mass) + tilt * lowest - cumulant <= logMass;
  }
}

/** Cells that share the nodes of `blockRule`, and the part of a panel that they may take. */
const BLOCK = 16;
const BLOCK_PANEL = 1e-2;
const blockRule = gaussLegendre(6);

/** Cells from `from` on, whole blocks of them, over which the law is integrated in the loss itself. */
function lossBlocks(measure: LossMeasure, step: number): { from: number; blocks: number } {
  if (measure.lossDensity === undefined) return { from: 0, blocks: 0 };
  const { from, to } = measure.lossDensity.within(BLOCK * step, BLOCK_PANEL * measure.panel);
  const first = Math.ceil(Math.max(from, measure.loss(measure.from)) / step);
  const last = Math.floor(Math.min(to, measure.loss(measure.to)) / step);
  return { from: first, blocks: Math.max(0, Math.floor((last - first) / BLOCK)) };
}

/** Lagrange's polynomial that is 1 at node `n` and 0 at the others. */
const lagrange = (nodes: Float64Array, n: number, x: number): number =>
  nodes.reduce((product, node, i) => (i === n ? product : (product * (x - node)) / (nodes[n]! - node)), 1);

/**
 * What the density at each of a block's nodes gives to each of its grid points, [BLOCK + 1, nodes]: the density between
 * is the nodes' polynomial, and cells lie alike in every block.
 */
function blockParts(step: number): Float64Array {
  const { nodes } = blockRule;
  const parts = new Float64Array((BLOCK + 1) * nodes.length);
  for (let cell = 0; cell < BLOCK; cell += 1) {
    for (let i = 0; i < shortRule.nodes.length; i += 1) {
      const part = (1 + shortRule.nodes[i]!) / 2;
      const up = Math.expm1(-part * step) / Math.expm1(-step);
      for (let n = 0; n < nodes.length; n += 1) {
        const mass = 0.5 * step * shortRule.weights[i]! * lagrange(nodes, n, (2 * (cell + part)) / BLOCK - 1);
        const low = cell * nodes.length + n;
        const high = low + nodes.length;
        parts[low] = parts[low]! + mass * (1 - up);
        parts[high] = parts[high]! + mass * up;
      }
    }
  }
  return parts;
}

/** Adds the blocks of cells from `cell` on; masses[0] is that cell's lower end. */
function spreadOverLoss(density: LossDensity, step: number, cell: number, blocks: number, masses: Float64Array): void {
  const parts = blockParts(step);
  const offsets = blockRule.nodes.map((node) => (BLOCK * (1 + node)) / 2);
  const values = new Float64Array(offsets.length);
  for (let start = 0; start < BLOCK * blocks; start += BLOCK) {
    for (let n = 0; n < values.length; n += 1) values[n] = density.at((cell + start + offsets[n]!) * step);
    for (let i = 0; i <= BLOCK; i += 1) {
      let mass = masses[start + i]!;
      for (let n = 0; n < values.length; n += 1) mass += parts[i * values.length + n]! * values[n]!;
      masses[start + i] = mass;
    }
  }
}

/**
 * Moves each mass at a loss l in [a, a + step] to both ends of the cell, so that its mass under P and under Q
 * (mass times exp(-l)) stay the same. The hockey-stick curve of the result is the chord of the true, convex one
 * between grid points: never below it, and exact at the points for a single application.
 */
export function discretise(measure: LossMeasure, step: number): LossGrid {
  const { lowest, highest } = lossRange(measure);
  const first = Math.floor(lowest / step);
  const masses = new Float64Array(Math.ceil(highest / step) - first + 2);
  const whole = -Math.expm1(-step);
  const put = (cell: number, mass: number, loss: number): void => {
    const up = Math.min(1, Math.max(0, -Math.expm1(cell * step - loss) / whole));
    masses[cell - first] = masses[cell - first]! + mass * (1 - up);
    masses[cell - first + 1] = masses[cell - first + 1]! + mass * up;
  };
  for (const { mass, loss } of measure.atoms) put(Math.floor(loss / step), mass, loss);

  const { panel } = measure;
  const lastCell = Math.floor(highest / step);
  /** Integrates over x. */
  const spread = (from: number, to: number): void => {
    let x = from;
    for (let cell = Math.floor(measure.loss(from) / step); x < to; cell += 1) {
      const end = cell >= lastCell ? to : Math.min(to, measure.inverse((cell + 1) * step));
      if (end <= x) continue;
      const panels = Math.ceil((end - x) / panel);
      const width = (end - x) / panels;
      const { nodes, weights } = ruleFor(width, panel);
      for (let k = 0; k < panels; k += 1) {
        const middle = x + (k + 0.5) * width;
        for (let i = 0; i < nodes.length; i += 1) {
          const node = middle + nodes[i]! * 0.5 * width;
          put(cell, weights[i]! * 0.5 * width * measure.density(node), measure.loss(node));
        }
      }
      x = end;
    }
  };
  const cell = Math.floor(measure.loss(measure.from) / step);
  masses[cell + 1 - first] = masses[cell + 1 - first]! + measure.below(measure.from);
  const { from, blocks } = lossBlocks(measure, step);
  if (blocks > 0) {
    spread(measure.from, measure.inverse(from * step));
    spreadOverLoss(measure.lossDensity!, step, from, blocks, masses.subarray(from - first));
    spread(measure.inverse((from + BLOCK * blocks) * step), measure.to);
  } else {
    spread(measure.from, measure.to);
  }
  return { count: measure.count, step, first, masses, infinity: measure.above };
}

export function sketch(measure: LossMeasure): LossSketch {
  const { from, to, panel, atoms, below } = measure;
  const panels = Math.min(4000, Math.ceil((to - from) / panel));
  const width = (to - from) / panels;
  const rule = shortRule;
  const size = panels * rule.nodes.length + atoms.length + 1;
  const masses = new Float64Array(size);
  const losses = new Float64Array(size);
  let i = 0;
  const put = (mass: number, loss: number): void => {
    masses[i] = mass;
    losses[i] = loss;
    i += 1;
  };
  put(below(from), measure.loss(from));
  for (const { mass, loss } of atoms) put(mass, loss);
  for (let k = 0; k < panels; k += 1) {
    for (let n = 0; n < rule.nodes.length; n += 1) {
      const x = from + (k + 0.5 + 0.5 * rule.nodes[n]!) * width;
      put(rule.weights[n]! * 0.5 * width * measure.density(x), measure.loss(x));
    }
  }
  return { count: measure.count, masses, losses };
}
