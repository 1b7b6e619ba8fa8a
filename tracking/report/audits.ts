/** @file The section of a report on audits: what could be got back of the records behind synthetic sets. */

import type { AuditedMembership, AuditedRepetition, AuditFindings } from '../../schemas/audit.ts';
import { doorOf } from '../door.ts';
import type { RunResults } from '../results.ts';
import { columns, type Block, type Section, type Text } from './document.ts';

const digits = (value: number): string => value.toFixed(3);
const interval = ({ low, high }: { low: number; high: number }): string => `[${digits(low)}, ${digits(high)}]`;

export function auditSection(results: RunResults): Section[] {
  const blocks = results.plan.nodes.flatMap((node): Block[] => {
    const artifact = results.artifacts.get(node.id);
    if (node.kind !== 'audit' || !artifact) return [];
    const found = doorOf(results.plan, node).content(artifact.manifest.summary as unknown as AuditFindings);
    return found ? auditBlocks(node.id, found) : [];
  });
  if (blocks.length === 0) return [];
  const text =
    'An audit can refute a guarantee, not prove one: other attacks may find more. Its generator was trained once more, ' +
    'with canaries among the records, and charged once more. All figures are exact: no epsilon bounds what they tell of ' +
    'real records.';
  return [{ id: 'audits', title: 'What can be got back', blocks: [{ kind: 'paragraph', text }, ...blocks] }];
}

function auditBlocks(id: string, found: AuditFindings): Block[] {
  const { repeated, mostExposure, samples, rows, membership, longestRun } = found;
  const copied =
    `The longest run of words that the synthetic set shares with ${rows} training records has ${longestRun.train}, with ` +
    `${rows} test records ${longestRun.test}: what test records have of it is chance, or stock phrases.`;
  return [
    { kind: 'paragraph', text: [{ code: id }, `: ${boundText(found)}`] },
    {
      kind: 'table',
      caption: `Repeated canaries; an exposure is at most ${mostExposure.toFixed(1)} bits, and about 1.4 for a text never seen`,
      columns: columns(
        'planted:right',
        'canaries:right',
        'mean exposure, bits:right',
        `in ${samples} texts drawn:right`,
      ),
      rows: repeated.map(repetitionRow),
    },
    {
      kind: 'table',
      caption: `Telling ${rows} training records from ${rows} test records, with 95 % intervals; chance is an area of 0.5`,
      columns: columns('from', 'area under the ROC curve:right', ...rateTitles(membership.model)),
      rows: [memberRow('the model', membership.model), memberRow('the synthetic set alone', membership.synthetic)],
    },
    { kind: 'paragraph', text: copied },
  ];
}

function boundText({ claim, bound }: AuditFindings): string {
  const shown =
    `epsilon is at least ${digits(bound.epsilon)} at delta ${bound.delta}, but for a chance of ${bound.failure} ` +
    `(${bound.correct} of ${bound.guesses} guesses about ${bound.canaries} canaries were right; they could show ` +
    `${digits(bound.most)} at most).`;
  if (claim === null) return `${shown} The training claims no epsilon.`;
  return (
    `${shown} The training claims ${digits(claim.epsilonOfBound)} at that delta, which is ${digits(claim.epsilon)} at ` +
    `delta ${claim.delta.toPrecision(2)}.`
  );
}

function repetitionRow({ repetitions, exposures, leaked }: AuditedRepetition): Text[] {
  const mean = exposures.reduce((sum, each) => sum + each, 0) / exposures.length;
  return [
    String(repetitions),
    String(exposures.length),
    mean.toFixed(2),
    `${digits(leaked.value)} ${interval(leaked)}`,
  ];
}

const rateTitles = ({ rates }: AuditedMembership): string[] =>
  rates.map(({ falseAlarms }) => `found at ${falseAlarms * 100} % false alarms:right`);

const memberRow = (from: string, { area, rates }: AuditedMembership): Text[] => [
  from,
  `${digits(area.value)} ${interval(area)}`,
  ...rates.map((each) => `${digits(each.rate)} ${interval(each)}`),
];
