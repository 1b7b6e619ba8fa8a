/** @file Accountants against dp-accounting: the same queries, in turns, in one run. */

import { composedEpsilon, mergeEvents, type MechanismEvent } from '../privacy/accounting/index.ts';
import { calibrateNoiseMultiplier } from '../privacy/calibration.ts';
import { median, type Bench, type BenchCase, type MeasureOptions } from './bench-case.ts';
import { PeerProcess, type PeerScript } from './peer-process.ts';

const pins = [
  'dp-accounting==0.6.0',
  'absl-py==2.5.1',
  'attrs==23.2.0',
  'dm-tree==0.1.10',
  'mpmath==1.4.1',
  'numpy==2.2.6',
  'scipy==1.15.3',
  'wrapt==2.5.2',
];
const peerName = 'dp-accounting 0.6.0';
const goal = 10;

interface Answer {
  seconds: number;
  value: number;
}

const script: PeerScript = { environment: 'accounting', pins, script: 'accounting-peer.py' };

let shared: Promise<PeerProcess<Answer>> | null = null;

function timed(work: () => number): Answer {
  const started = performance.now();
  const value = work();
  return { seconds: (performance.now() - started) / 1000, value };
}

interface Contest {
  rounds: number;
  /** Part by which the two answers may differ: they must have answered the same question. */
  agreement: number;
  /** The round's request, a little different each time so that no answer comes from a cache. */
  request: (round: number) => { peer: Record<string, unknown>; ours: () => number };
}

/** Medians of both, in ms; the first round warms up both and counts for neither. */
async function contest(
  { rounds, agreement, request }: Contest,
  say: (text: string) => void,
): Promise<{ ours: number; peer: number }> {
  shared ??= PeerProcess.start<Answer>(script, say);
  const peer = await shared;
  const seconds = { ours: [] as number[], peer: [] as number[] };
  for (let round = 0; round <= rounds; round += 1) {
    const asked = request(round);
    const ours = timed(asked.ours);
    const theirs = await peer.ask(asked.peer);
    if (!(Math.abs(ours.value - theirs.value) <= agreement * theirs.value)) {
      throw new Error(`The answers differ: ours ${ours.value}, the peer's ${theirs.value}.`);
    }
    say(
      `  ${round === 0 ? 'warm-up' : `round ${round}`}: ours ${(ours.seconds * 1e3).toFixed(2)} ms, peer ${(theirs.seconds * 1e3).toFixed(1)} ms (${ours.value.toPrecision(6)}, ${theirs.value.toPrecision(6)})`,
    );
    if (round === 0) continue;
    seconds.ours.push(ours.seconds);
    seconds.peer.push(theirs.seconds);
  }
  return { ours: 1e3 * median(seconds.ours), peer: 1e3 * median(seconds.peer) };
}

const step = (samplingProbability: number, noiseMultiplier: number, count: number): MechanismEvent => ({
  mechanism: 'poisson-gaussian',
  samplingProbability,
  noiseMultiplier,
  count,
});

const delta = 1e-5;
const vary = (value: number, round: number): number => value * (1 + 1e-4 * round);

const latency = (
  name: string,
  measure: (options: MeasureOptions) => Promise<{ ours: number; peer: number }>,
): BenchCase => ({
  name,
  unit: 'ms',
  better: 'less',
  peerName,
  goal,
  measure,
});

export const accounting: Bench = {
  name: 'accounting',
  cases: [
    latency('pld-query', ({ quick, say }) =>
      contest(
        {
          rounds: quick ? 2 : 9,
          agreement: 2e-3,
          request: (round) => {
            const [q, sigma, steps] = [0.01, vary(1, round), 1000];
            return {
              peer: { task: 'query', q, sigma, steps, delta },
              ours: () => composedEpsilon([step(q, sigma, steps)], delta, 'pld').epsilon,
            };
          },
        },
        say,
      ),
    ),
    latency('sigma-calibration', ({ quick, say }) =>
      contest(
        {
          rounds: quick ? 1 : 3,
          agreement: 2e-3,
          request: (round) => {
            const [q, steps, target] = [0.01, 1000, vary(3, round)];
            return {
              peer: { task: 'calibration', q, steps, target, delta, tolerance: 1e-5 },
              ours: () =>
                calibrateNoiseMultiplier({
                  samplingProbability: q,
                  steps,
                  targetEpsilon: target,
                  delta,
                  accountant: 'pld',
                }).noiseMultiplier,
            };
          },
        },
        say,
      ),
    ),
    latency('1000-incremental-compositions', ({ quick, say }) =>
      contest(
        {
          rounds: quick ? 1 : 2,
          agreement: 2e-3,
          request: (round) => {
            const [q, sigma, steps] = [0.01, vary(1, round), quick || round === 0 ? 100 : 1000];
            return {
              peer: { task: 'increments', q, sigma, steps, delta },
              ours: () => {
                let composed: MechanismEvent[] = [];
                for (let done = 0; done < steps; done += 1) composed = mergeEvents([...composed, step(q, sigma, 1)]);
                return composedEpsilon(composed, delta, 'pld').epsilon;
              },
            };
          },
        },
        say,
      ),
    ),
    // Epsilon after each of 50 steps, as a training loop shows it.
    latency('epsilon-after-each-step', ({ quick, say }) =>
      contest(
        {
          rounds: quick ? 1 : 2,
          agreement: 2e-3,
          request: (round) => {
            const [q, sigma, steps] = [0.01, vary(1, round), quick || round === 0 ? 10 : 50];
            return {
              peer: { task: 'readings', q, sigma, steps, delta },
              ours: () => {
                let epsilon = 0;
                for (let done = 1; done <= steps; done += 1) {
                  epsilon = composedEpsilon([step(q, sigma, done)], delta, 'pld').epsilon;
                }
                return epsilon;
              },
            };
          },
        },
        say,
      ),
    ),
  ],
  close: async () => {
    if (shared !== null) await (await shared).close();
  },
};
