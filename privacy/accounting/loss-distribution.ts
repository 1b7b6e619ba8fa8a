/**
 * @file Epsilon from privacy-loss distributions: composition by FFT of exponentially tilted laws, every error counted.
 *
 * With a tilt t each mass p at loss l becomes p exp(t l - K(t)), so that the composed law is centred where epsilon is
 * and round-off is relative to delta however small that is (cf. Koskela et al. 2020; Gopi et al. 2021). Undone,
 *   delta(e) = exp(K - t e) * sum over l > e of tilted(l) exp(-t (l - e)) (1 - exp(e - l)).
 * Above that come: infinite losses, mass beyond the upper end of the window (Chernoff), round-off of the transforms,
 * and the error of each mass. Mass outside the window wraps round into it, which can only raise delta.
 */

import { saddleTilt, cumulants, gridCumulant, meanTilt, tiltedEnd } from './cumulants.ts';
import { combinedNoise } from './gaussian.ts';
import { conjugatePosition, inverseTransform, roundOff, transform } from './fourier.ts';
import { discretise, lossRange, MASS_ERROR, raiseLowest, sketch, type LossGrid, type LossSketch } from './loss-grid.ts';
import { lossMeasure, type Direction, type LossMeasure } from './loss-measure.ts';
import type { MechanismEvent } from './mechanism-event.ts';

/** What the grid may add to epsilon, relative to epsilon or, where that is larger, to the scale of the losses. */
const GRID_TOLERANCE = 1e-4;
/** Times as much is granted where a coarse figure may prove a direction to be the lesser. */
const COARSER = 25;
/** Part of the composed loss's deviation below which epsilon's relative error no longer matters. */
const SMALLEST_SCALE = 0.02;
/** Epsilons guessed before the grid fits; heavy tails need a few. */
const MOST_ROUNDS = 12;
/** Cut-off masses and mass beyond the window, relative to delta. */
const NEGLIGIBLE = 1e-7;
/** Tilted mass that may wrap round from outside the window. */
const WRAPPED = 1e-9;
/** Round-off of a transform is about 1e-14 a step; of delta it may take 1e-7. */
const AFFORDABLE_NOISE = 1e7;
const LONGEST_WINDOW = 2 ** 18;
/** Times that a window is chosen for a coarser grid. */
const MOST_COARSENINGS = 4;
const LARGEST_GRID = 2 ** 20;

interface Composition {
  /** Losses run from first * step over `tilted.length` grid points. */
  first: number;
  step: number;
  tilt: number;
  /** Sum of the grids' K(tilt). */
  cumulant: number;
  /** Tilted masses, each raised by the bound of its round-off. */
  tilted: Float64Array;
  /** Part of delta that no epsilon takes away. */
  rest: number;
}

/** Tilted masses of one application, folded onto `length` grid points. */
function foldTilted(grid: LossGrid, tilt: number, cumulant: number, length: number, into: Float64Array): void {
  into.fill(0);
  const { first, masses, step } = grid;
  for (let i = 0; i < masses.length; i += 1) {
    if (masses[i] === 0) continue;
    const index = first + i;
    const slot = ((index % length) + length) % length;
    into[slot] = into[slot]! + masses[i]! * Math.exp(tilt * index * step - cumulant);
  }
}

/** Product of z^count at every frequency, grid by grid, as logarithms of sizes and as angles. */
interface Spectrum {
  logSizes: Float64Array;
  angles: Float64Array;
  /** Bounds of the relative errors. */
  errors: Float64Array;
}

/** Below this logarithm a frequency is left out. */
const FAINTEST = -90;

/** Multiplies by z^count, z of one application, given the bound `input` of every z's error. */
function multiply(
  spectrum: Spectrum,
  { real, imaginary }: { real: Float64Array; imaginary: Float64Array },
  count: number,
  input: number,
): void {
  const { logSizes, angles, errors } = spectrum;
  for (let position = 0; position < logSizes.length; position += 1) {
    if (logSizes[position]! < FAINTEST || conjugatePosition(position) < position) continue;
    const re = real[position]!;
    const im = imaginary[position]!;
    const log = 0.5 * Math.log(re * re + im * im);
    logSizes[position] = logSizes[position]! + count * log;
    angles[position] = angles[position]! + count * Math.atan2(im, re);
    errors[position] = errors[position]! + count * (input * Math.exp(-log) + 1e-15 * (2 - log));
  }
}

/** Writes the product over `real` and `imaginary`; returns the sums of magnitudes and of bounds of their errors. */
function writeProduct(
  { logSizes, angles, errors }: Spectrum,
  real: Float64Array,
  imaginary: Float64Array,
): { magnitudes: number; errors: number } {
  real.fill(0);
  imaginary.fill(0);
  let magnitudes = 0;
  let sum = 0;
  for (let position = 0; position < real.length; position += 1) {
    const partner = conjugatePosition(position);
    if (partner < position || logSizes[position]! < FAINTEST) continue;
    const size = Math.exp(logSizes[position]!);
    const weight = partner === position ? 1 : 2;
    magnitudes += weight * size;
    sum += weight * size * errors[position]!;
    real[position] = size * Math.cos(angles[position]!);
    imaginary[position] = size * Math.sin(angles[position]!);
    if (partner !== position) {
      real[partner] = real[position]!;
      imaginary[partner] = -imaginary[position]!;
    }
  }
  // Frequencies left out, and what products of two errors add: far below anything that counts.
  return { magnitudes, errors: sum + real.length * 1e-28 };
}

/**
 * Composes the laws on the window that starts at grid point `first`. One grid at a time, so that the memory does not
 * grow with the number of unlike mechanisms.
 */
function compose(
  measures: readonly LossMeasure[],
  step: number,
  tilt: number,
  first: number,
  length: number,
  beyondTilt: number,
): Composition {
  let cumulant = 0;
  let infinite = 0;
  let beyond = 0;
  let highest = 0;
  const unit = roundOff(length);
  const real = new Float64Array(length);
  const imaginary = new Float64Array(length);
  const spectrum: Spectrum = {
    logSizes: new Float64Array(length),
    angles: new Float64Array(length),
    errors: new Float64Array(length),
  };
  for (const measure of measures) {
    const grid = discretise(measure, step);
    const own = gridCumulant(grid, tilt);
    cumulant += grid.count * own;
    infinite += grid.count * grid.infinity;
    beyond += grid.count * gridCumulant(grid, beyondTilt);
    highest += grid.count * (grid.first + grid.masses.length - 1);
    foldTilted(grid, tilt, own, length, real);
    imaginary.fill(0);
    transform(real, imaginary);
    // Tilted masses sum to 1; the transforms' errors are relative to that.
    multiply(spectrum, { real, imaginary }, grid.count, unit + 4e-16);
  }
  const { magnitudes, errors } = writeProduct(spectrum, real, imaginary);
  inverseTransform(real, imaginary);
  const noise = (errors + unit * magnitudes) / length;
  const tilted = new Float64Array(length);
  for (let i = 0; i < length; i += 1) {
    const slot = (((first + i) % length) + length) % length;
    tilted[i] = Math.max(0, real[slot]!) + noise;
  }
  const end = first + length - 1;
  const above = highest <= end ? 0 : Math.exp(Math.min(0, beyond - beyondTilt * (end + 1) * step));
  return { first, step, tilt, cumulant, tilted, rest: infinite + above };
}

interface Reading {
  epsilon: number;
  clipped: boolean;
}

/**
 * Least epsilon >= 0 with delta(epsilon) <= delta, from above. `clipped` when the window ends before it and its lower
 * end stands in; Infinity when not even the window's upper end is good enough.
 */
function epsilonOf(composition: Composition, count: number, delta: number): Reading {
  const { first, step, tilt, cumulant, tilted, rest } = composition;
  const inflation = 1 + count * MASS_ERROR;
  const target = (delta - rest) / inflation;
  if (target <= 0) return { epsilon: Infinity, clipped: false };
  const logTarget = Math.log(target);
  const decay = Math.exp(-tilt * step);
  const steeper = Math.exp(-(tilt + 1) * step);
  // Sums over grid points from j up of tilted * exp(-tilt (l - l_j)) and of tilted * exp(-(tilt + 1) (l - l_j)).
  let whole = 0;
  let reduced = 0;
  const lowest = Math.max(first, 0);
  for (let index = first + tilted.length - 1; index >= lowest; index -= 1) {
    const mass = tilted[index - first]!;
    const nextWhole = mass + decay * whole;
    const nextReduced = mass + steeper * reduced;
    const logScale = cumulant - tilt * index * step;
    if (nextWhole - nextReduced > Math.exp(Math.min(700, logTarget - logScale))) {
      // Between this point and the one above, delta(e) is linear in exp(e).
      const above = (index + 1) * step;
      const scaled = Math.exp(logTarget - (cumulant - tilt * above));
      const ratio = (whole - scaled) / reduced;
      const distance = ratio > 0 ? Math.min(step, Math.max(0, -Math.log(ratio))) : step;
      return { epsilon: Math.max(0, above - distance), clipped: false };
    }
    whole = nextWhole;
    reduced = nextReduced;
  }
  return { epsilon: lowest * step, clipped: first > 0 };
}

interface Plan {
  measures: LossMeasure[];
  sketches: LossSketch[];
  count: number;
  lowest: number;
  highest: number;
  information: number;
}

interface Window {
  tilt: number;
  low: number;
  high: number;
  /** Tilt of Chernoff's bound for mass above `high`. */
  beyondTilt: number;
  /** log of the tilted mass that may wrap round. */
  wrapped: number;
}

/**
 * The shortest window among some tilts up to the saddle point's. A smaller tilt moves the composed law away from
 * `epsilon`, by `slack` nats, which its window must make up for and round-off must leave; it pays where rare large
 * losses draw out the upper tail.
 */
function chooseWindow(plan: Plan, saddle: number, epsilon: number, finest: number): Window {
  const { sketches, count } = plan;
  const exponent = (tilt: number): number => cumulants(sketches, tilt).value - tilt * epsilon;
  const least = exponent(saddle);
  const affordable = Math.log(AFFORDABLE_NOISE / count);
  // Tilts that resolve single cells of the grid would bound the sketch and not the grid: moving masses within a cell
  // adds up to count (t step)^2 / 8 to log E exp(t L), which stays below 1.
  const furthest = Math.min(0.5, Math.sqrt(8 / count)) / finest;
  let best: Window | null = null;
  for (const part of [1, 0.6, 0.3, 0]) {
    const tilt = part * saddle;
    const slack = Math.max(0, exponent(tilt) - least);
    if (best !== null && slack > affordable) break;
    const wrapped = Math.log(WRAPPED) - slack;
    const upper = tiltedEnd(sketches, tilt, 1, -wrapped, furthest);
    const lower = tiltedEnd(sketches, tilt, -1, -wrapped, furthest);
    // On the grid each application may reach two cells further than its law.
    const high = Math.min(plan.highest + 2 * count * finest, upper.end);
    const low = Math.max(plan.lowest - 2 * count * finest, Math.min(lower.end, high));
    if (best !== null && high - low >= best.high - best.low) break;
    best = { tilt, low, high, beyondTilt: upper.tilt, wrapped };
  }
  return best!;
}

/** One pass: grid and window for an epsilon like `guess`, composed and read off. */
function pass(plan: Plan, delta: number, saddle: number, guess: number, tolerance: number): Reading {
  const { sketches, count } = plan;
  // Moving a mass to its cell's ends adds up to step^2 / 6 to the variance of each loss on average: that shifts
  // epsilon by count (1 + saddle) step^2 / 12.
  const fine = Math.sqrt((12 * tolerance) / ((1 + saddle) * count));
  let wanted = fine;
  let window = chooseWindow(plan, saddle, guess, wanted);
  let measures: LossMeasure[] = [];
  let widest = 0;
  // A window too long for the grid coarsens it, and the bound of what lies beyond must hold on that grid.
  for (let round = 0; round < MOST_COARSENINGS; round += 1) {
    const { tilt, wrapped, low, high } = window;
    measures = plan.measures.map((measure, i) => {
      const own = cumulants([{ ...sketches[i]!, count: 1 }], tilt).value;
      return raiseLowest(measure, tilt, own, wrapped - Math.log(1000 * count));
    });
    widest = Math.max(...measures.map((measure) => lossRange(measure).highest - lossRange(measure).lowest));
    const needed = Math.max(fine, (1.3 * (high - low)) / LONGEST_WINDOW, widest / LARGEST_GRID);
    if (needed <= 1.1 * wanted) break;
    wanted = needed;
    window = chooseWindow(plan, saddle, guess, wanted);
  }
  const whole = { low: plan.lowest - 2 * count * wanted, high: plan.highest + 2 * count * wanted };
  // Where all there is fits without much ado, nothing wraps and nothing lies beyond.
  const { tilt, beyondTilt } = window;
  const { low, high } = whole.high - whole.low < 3 * (window.high - window.low) ? whole : window;
  const length = Math.max(64, 2 ** Math.ceil(Math.log2((high - low) / wanted + 4)));
  // The length is rounded up, so a finer step costs nothing.
  const step = Math.max((high - low) / (length - 4), wanted / 2, widest / LARGEST_GRID);
  const composition = compose(measures, step, tilt, Math.floor(low / step) - 1, length, beyondTilt);
  return epsilonOf(composition, count, delta);
}

function planOf(events: readonly MechanismEvent[], delta: number, direction: Direction): Plan {
  const count = events.reduce((sum, event) => sum + event.count, 0);
  const information = Math.max(0.1, -Math.log(delta));
  const cut = { low: Math.log(1e-12) - Math.log(count), high: -information + Math.log(NEGLIGIBLE) - Math.log(count) };
  const measures = events.map((event) => lossMeasure(event, direction, cut));
  const sketches = measures.map(sketch);
  const ends = measures.map((measure) => ({ ...lossRange(measure), count: measure.count }));
  const highest = ends.reduce((sum, end) => sum + end.count * end.highest, 0);
  const lowest = ends.reduce((sum, end) => sum + end.count * end.lowest, 0);
  return { measures, sketches, count, lowest, highest, information };
}

/** Chernoff's bound of a plan's epsilon; the margin is for the sketches, which are accurate but bound nothing. */
const chernoff = ({ sketches, information }: Plan, tilt: number): number =>
  (1.01 * (cumulants(sketches, tilt).value + information)) / tilt;

/** Upper bound of the epsilon of one direction without any grid: far quicker than `directedEpsilon`, and looser. */
export function roughEpsilon(events: readonly MechanismEvent[], delta: number, direction: Direction): number {
  const plan = planOf(events, delta, direction);
  return plan.highest <= 0 ? 0 : chernoff(plan, saddleTilt(plan.sketches, plan.information));
}

/** Epsilon of one direction, from above; any bound of it that is at most `irrelevant` may be returned instead. */
export function directedEpsilon(
  events: readonly MechanismEvent[],
  delta: number,
  direction: Direction,
  irrelevant: number,
): number {
  const plan = planOf(events, delta, direction);
  const { sketches, information } = plan;
  if (plan.highest <= 0) return 0;
  let tilt = saddleTilt(sketches, information);
  const rough = chernoff(plan, tilt);
  if (rough <= irrelevant) return rough;
  const { mean, variance } = cumulants(sketches, tilt);
  let floor = SMALLEST_SCALE * Math.sqrt(variance);
  let guess = mean;
  let best = Infinity;
  if (irrelevant > 0) {
    const { epsilon } = pass(plan, delta, tilt, guess, COARSER * GRID_TOLERANCE * Math.max(guess, floor));
    if (epsilon <= irrelevant) return epsilon;
  }
  for (let round = 0; round < MOST_ROUNDS; round += 1) {
    const scale = Math.max(guess, floor);
    const { epsilon, clipped } = pass(plan, delta, tilt, guess, GRID_TOLERANCE * scale);
    best = Math.min(best, epsilon);
    // Good when the grid was chosen for an epsilon like the one found.
    if (best === 0 || (!clipped && Math.max(best, floor) > 0.5 * scale)) break;
    guess = best;
    tilt = meanTilt(sketches, guess, information);
    floor = SMALLEST_SCALE * Math.sqrt(cumulants(sketches, tilt).variance);
  }
  return best;
}

/**
 * Upper bound of the epsilon at `delta` of merged `events`, as tight as double precision allows: within about 2e-4 of
 * the truth, relative. Infinity where round-off leaves nothing to say.
 */
export function pldEpsilon(events: readonly MechanismEvent[], delta: number): number {
  if (events.length === 0) return 0;
  const noise = combinedNoise(events.filter((event) => event.mechanism === 'gaussian'));
  if (noise !== null) {
    // Gaussian mechanisms compose to one exactly, and that costs a single application on the grid.
    const others = events.filter((event) => event.mechanism !== 'gaussian');
    return composed([...others, { mechanism: 'gaussian', noiseMultiplier: noise, count: 1 }], delta);
  }
  return composed(events, delta);
}

function composed(events: readonly MechanismEvent[], delta: number): number {
  const remove = directedEpsilon(events, delta, 'remove', 0);
  // Total variation is the same in both directions.
  return remove === 0 ? 0 : Math.max(remove, directedEpsilon(events, delta, 'add', remove));
}
