/**
 * @file Discrete stand-ins for loss laws. `discretise` is pessimistic ("connect the dots", Doroshenko et al. 2022);
 * `sketch` is only accurate, and chooses tilts, windows and grids.
 */

import { gaussLegendre, type Quadrature } from './gauss-legendre.ts';
import type { LossMeasure } from './loss-measure.ts';

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

  const { from, to, panel } = measure;
  let x = from;
  let cell = Math.floor(measure.loss(from) / step);
  masses[cell + 1 - first] = masses[cell + 1 - first]! + measure.below(from);
  const lastCell = Math.floor(highest / step);
  while (x < to) {
    const end = cell >= lastCell ? to : Math.min(to, measure.inverse((cell + 1) * step));
    if (end > x) {
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
    cell += 1;
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
