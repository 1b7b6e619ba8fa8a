/** @file Measuring several arms in turns, so that all meet the machine in the same moods. */

import { median } from '../bench-case.ts';

export interface Arm {
  name: string;
  /** Does `steps` repetitions of the work and returns the seconds of each. */
  run(steps: number): Promise<number[]>;
}

export interface Contest {
  /** Turns that count, after one that warms up. */
  rounds: number;
  /** Repetitions in a turn. */
  steps: number;
}

/** Median seconds of each arm, by its name. */
export async function inTurns(
  arms: readonly Arm[],
  { rounds, steps }: Contest,
  say: (text: string) => void,
): Promise<Map<string, number>> {
  const seconds = new Map(arms.map(({ name }) => [name, [] as number[]]));
  for (let round = 0; round <= rounds; round += 1) {
    for (const { name, run } of arms) {
      const taken = await run(round === 0 ? 1 : steps);
      if (round > 0) seconds.get(name)!.push(...taken);
    }
  }
  const medians = new Map([...seconds].map(([name, taken]) => [name, median(taken)]));
  for (const [name, taken] of seconds) {
    const [least, most] = [Math.min(...taken), Math.max(...taken)].map((value) => (1e3 * value).toFixed(0));
    say(`  ${name}: ${(1e3 * medians.get(name)!).toFixed(0)} ms (${least} to ${most})`);
  }
  return medians;
}

/** The arm with the least median among those whose names are given. */
export function fastest(medians: ReadonlyMap<string, number>, names: readonly string[]): number {
  return Math.min(...names.map((name) => medians.get(name)!));
}

/** Seconds that some work takes. */
export async function secondsOf(work: () => void | Promise<void>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

/** An arm of work in this process. */
export const localArm = (name: string, work: () => void | Promise<void>): Arm => ({
  name,
  run: async (steps) => {
    const seconds: number[] = [];
    for (let step = 0; step < steps; step += 1) seconds.push(await secondsOf(work));
    return seconds;
  },
});
