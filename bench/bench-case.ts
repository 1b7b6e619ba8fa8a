/**
 * @file What a benchmark is: named cases, each measuring Epsilonflow and its peer in one run.
 *
 * To add one: export a `Bench` from a file of this folder, and list it in `benches` of main.ts. A case that has nothing
 * to be compared with has `peerName` and `goal` null; one that is compared with itself (ten times the entries, say)
 * names that as its peer. What a peer needs from pip comes from `peerPython` in peer-environment.ts.
 */

export interface MeasureOptions {
  /** Fewer repetitions and smaller inputs: to see that it works, not to report. */
  quick: boolean;
  /** Progress, for people. */
  say: (text: string) => void;
}

export interface BenchCase {
  name: string;
  /** Of both figures, such as "ms" or "1/s". */
  unit: string;
  better: 'less' | 'more';
  peerName: string | null;
  /** Ratio at which the case holds; above 1 is better than the peer. */
  goal: number | null;
  measure(options: MeasureOptions): Promise<{ ours: number; peer: number | null }>;
}

export interface Bench {
  name: string;
  cases: readonly BenchCase[];
  /** Ends what the cases share. */
  close?(): Promise<void>;
}

/** One line of output. */
export interface BenchRow {
  bench: string;
  case: string;
  unit: string;
  ours: number;
  peer: number | null;
  peerName: string | null;
  /** How many times better than the peer. */
  ratio: number | null;
  goal: number | null;
}

const digits = (value: number): number => Number(value.toPrecision(4));

export function benchRow(
  bench: string,
  { name, unit, better, peerName, goal }: BenchCase,
  { ours, peer }: { ours: number; peer: number | null },
): BenchRow {
  const ratio = peer === null ? null : digits(better === 'less' ? peer / ours : ours / peer);
  return {
    bench,
    case: name,
    unit,
    ours: digits(ours),
    peer: peer === null ? null : digits(peer),
    peerName,
    ratio,
    goal,
  };
}

/** Middle of the measured values. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
