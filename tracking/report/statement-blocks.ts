/** @file A privacy statement as blocks, for report, release and data card. */

import { showEpsilon } from '../lineage.ts';
import { guarantee, type PrivacyStatement } from '../statement.ts';
import { columns, type Block, type Text } from './document.ts';

/** Guarantee by dataset, the mechanisms behind it, and what it does not cover. */
export function statementBlocks(statement: PrivacyStatement): Block[] {
  const mechanisms = statement.datasets.flatMap((dataset) =>
    dataset.mechanisms.map(({ instance, targetEpsilon, epsilon, delta, mechanism, ledgerEntry }): Text[] => [
      [{ code: instance }],
      dataset.dataset,
      showEpsilon(targetEpsilon),
      showEpsilon(epsilon),
      delta.toExponential(1),
      ...(mechanism.kind === 'unbounded'
        ? ['none', '–', '–', '–']
        : [
            short(mechanism.samplingProbability),
            short(mechanism.noiseMultiplier),
            String(mechanism.steps),
            short(mechanism.clipNorm),
          ]),
      ledgerEntry === null ? '–' : [{ code: ledgerEntry.length > 16 ? `${ledgerEntry.slice(0, 12)}…` : ledgerEntry }],
    ]),
  );
  return [
    ...statement.datasets.map((dataset): Block => ({ kind: 'paragraph', text: guarantee(dataset) })),
    ...(statement.datasets.length === 0
      ? [{ kind: 'paragraph', text: 'Nothing here derives from a dataset that is not public.' } as const]
      : []),
    ...(mechanisms.length > 0
      ? [
          {
            kind: 'table',
            caption:
              'Mechanisms that read training records, each by itself: Poisson-subsampled Gaussian with sampling ' +
              'probability q, noise multiplier σ, T steps and clip norm C',
            columns: columns(
              'instance',
              'dataset',
              ...['ε asked', 'ε spent', 'δ', 'q', 'σ', 'T', 'C'].map((title) => `${title}:right`),
              'ledger entry',
            ),
            rows: mechanisms,
          } as const,
        ]
      : []),
    {
      kind: 'paragraph',
      text:
        'Arithmetic: float. Noise is drawn from a keyed cryptographic generator and added in floating point. ' +
        (statement.models.length > 0
          ? `Base model${statement.models.length === 1 ? '' : 's'}: ${statement.models.map(({ name, digest }) => `${name} (${digest.slice(0, 12)})`).join(', ')}.`
          : 'No base model.'),
    },
    { kind: 'paragraph', text: 'What the figures do not cover:' },
    { kind: 'list', items: statement.notCovered },
    {
      kind: 'paragraph',
      text:
        statement.waivers.length === 0
          ? 'Waivers: none.'
          : `Waivers: ${statement.waivers.map(({ name, reason }) => `${name} (“${reason}”)`).join('; ')}.`,
    },
  ];
}

const short = (value: number): string => String(Number(value.toPrecision(4)));
