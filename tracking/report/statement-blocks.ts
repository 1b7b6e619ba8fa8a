/** @file A privacy statement as blocks, for report, release and data card. */

import { showEpsilon } from '../wording.ts';
import { guarantee, type MechanismStatement, type PrivacyStatement } from '../statement.ts';
import { columns, type Block, type Text } from './document.ts';

/** Guarantee by dataset, the mechanisms behind it, and what it does not cover. */
export function statementBlocks(statement: PrivacyStatement): Block[] {
  const mechanisms = statement.datasets.flatMap((dataset) =>
    dataset.mechanisms.map(({ instance, targetEpsilon, epsilon, delta, mechanism, ledgerEntry }): Text[] => [
      [{ code: instance }],
      dataset.account,
      showEpsilon(targetEpsilon),
      showEpsilon(epsilon),
      delta.toExponential(1),
      ...parameters(mechanism),
      ledgerEntry === null ? '–' : [{ code: ledgerEntry.length > 16 ? `${ledgerEntry.slice(0, 12)}…` : ledgerEntry }],
    ]),
  );
  if (mechanisms.length === 0) {
    const read = statement.datasets.map(({ dataset }) => dataset);
    return [
      {
        kind: 'paragraph',
        text:
          read.length === 0
            ? 'Nothing here derives from a dataset that is not public.'
            : `No mechanism read training records of ${read.join(', ')}: nothing was charged. Figures on test records are exact.`,
      },
      waiverBlock(statement),
    ];
  }
  return [
    ...statement.datasets.map((dataset): Block => ({ kind: 'paragraph', text: guarantee(dataset) })),
    {
      kind: 'table',
      caption:
        'Mechanisms that read sensitive records, each by itself: on training records the Poisson-subsampled Gaussian ' +
        'with sampling probability q, noise multiplier σ, T steps and clip norm C; on test counts discrete Laplace ' +
        'noise of scale b',
      columns: columns(
        'instance',
        'account',
        ...['ε asked', 'ε spent', 'δ', 'q', 'σ', 'T', 'C'].map((title) => `${title}:right`),
        'ledger entry',
      ),
      rows: mechanisms,
    },
    { kind: 'paragraph', text: arithmetic(statement) },
    { kind: 'paragraph', text: 'What the figures do not cover:' },
    { kind: 'list', items: statement.notCovered },
    waiverBlock(statement),
  ];
}

function parameters(mechanism: MechanismStatement['mechanism']): string[] {
  switch (mechanism.kind) {
    case 'unbounded':
      return ['none', '–', '–', '–'];
    case 'discrete-laplace':
      return ['–', `b = ${short(mechanism.scale)}`, '1', '–'];
    case 'poisson-gaussian':
      return [
        short(mechanism.samplingProbability),
        short(mechanism.noiseMultiplier),
        String(mechanism.steps),
        short(mechanism.clipNorm),
      ];
  }
}

function arithmetic({ arithmetic, models }: PrivacyStatement): string {
  const named = models.map(({ name, digest }) => `${name} (${digest.slice(0, 12)})`).join(', ');
  return (
    `Arithmetic: ${arithmetic}. Noise is drawn from a keyed cryptographic generator and added ` +
    (arithmetic === 'exact' ? 'to integers, as the proof has it.' : 'in floating point.') +
    (models.length > 0 ? ` Base model${models.length === 1 ? '' : 's'}: ${named}.` : '')
  );
}

const waiverBlock = ({ waivers }: PrivacyStatement): Block => ({
  kind: 'paragraph',
  text:
    waivers.length === 0
      ? 'Waivers of this plan: none.'
      : `Waivers of this plan: ${waivers.map(({ name, reason }) => `${name} (“${reason}”)`).join('; ')}.`,
});

const short = (value: number): string => String(Number(value.toPrecision(4)));
