/** @file How figures are written for people. */

import type { LedgerLoss, LedgerWaiver } from '../privacy/ledger/ledger.ts';
import type { NodeCharge } from '../schemas/plan.ts';

/** `3`, `8`, `∞`: an epsilon as people write it, rounded up to three digits: it never promises more than is kept. */
export const showEpsilon = (epsilon: number | 'inf' | null): string =>
  epsilon === null || epsilon === 'inf' ? '∞' : String(Math.ceil(epsilon * 1000 - 1e-6) / 1000);

/** What is left of a budget, rounded down to three digits. */
export const showRemaining = (epsilon: number): string => String(Math.floor(epsilon * 1000) / 1000);

/** A sentence on spending that no figure of a ledger holds. */
export function describeLoss({ problem, row, author, reason }: LedgerLoss): string {
  const lost = {
    exchanged: 'the rows of an earlier ledger are lost',
    'rolled-back': 'rows written before it are lost',
    'secret-lost': 'the earlier dataset secret is lost, so that records of old and new data were not compared',
  }[problem];
  return `This ledger counts whole only from row ${row} on: ${lost}, acknowledged by ${author}, because: ${reason}.`;
}

/** A sentence on exact figures that left without a charge. */
export function describeWaiver({ waiver, reason, row }: Pick<LedgerWaiver, 'waiver' | 'reason' | 'row'>): string {
  const figures =
    waiver === 'decontamination' ? 'counts of what a corpus shares with its records' : 'exact figures of its records';
  return `Row ${row} of the ledger waives ${waiver} on this account (“${reason}”): ${figures} may have left, which no epsilon counts.`;
}

/** One line that names a mechanism and its parameters. */
export function describeMechanism({ mechanism }: Pick<NodeCharge, 'mechanism'>): string {
  if (mechanism.kind === 'unbounded') return 'none (training without DP)';
  if (mechanism.kind === 'discrete-laplace') {
    return `test counts with discrete Laplace noise of scale ${short(mechanism.scale)} on each cell`;
  }
  const { samplingProbability, noiseMultiplier, steps, clipNorm, arithmetic } = mechanism;
  return (
    `Poisson-subsampled Gaussian: sampling probability ${short(samplingProbability)}, noise multiplier ` +
    `${short(noiseMultiplier)}, ${steps} steps, clip norm ${short(clipNorm)}, ${arithmetic} arithmetic`
  );
}

const short = (value: number): string => String(Number(value.toPrecision(6)));

export function duration(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** An estimated duration: no more digits than it deserves. */
export function roughDuration(seconds: number): string {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  const hours = seconds / 3600;
  return hours < 48 ? `${hours.toPrecision(2)} h` : `${(hours / 24).toPrecision(hours < 240 ? 2 : 3)} days`;
}

/** In decimal units, as disks are sold: `1.2 MB`. */
export function fileSize(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const unit = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  const value = bytes / 1000 ** unit;
  return `${value.toFixed(unit > 0 && value < 10 ? 1 : 0)} ${units[unit]}`;
}
