/** @file What is seen of a run while it goes on: on a terminal a block of lines, elsewhere one line now and then. Pure. */

import type { LiveProgress } from '../activities/live-progress.ts';
import type { PartialSum } from '../tracking/estimates.ts';
import type { Paint } from './output.ts';
import { sumOf, waitingOf, type StepGroup } from './run-groups.ts';
import { leftText } from './time-left.ts';

export interface RunningStep {
  node: string;
  /** Null while it tells nothing. */
  progress: LiveProgress | null;
  /** Units of its progress a second; null while nothing tells. */
  rate: number | null;
}

export interface LiveState {
  groups: readonly StepGroup[];
  running: readonly RunningStep[];
  /** Seconds; null for a run without estimates. */
  left: PartialSum | null;
  /** What accounts of the ledger come to, a line each. */
  spent: readonly string[];
  /** Title and address. */
  links: readonly (readonly [string, string])[];
}

interface Screen {
  columns: number;
  rows: number;
}

/** Of what stands below the steps. */
const titleWidth = 8;

export const describeLink = ([title, address]: LiveState['links'][number], paint: Paint): string =>
  `${paint('dim', title.padEnd(titleWidth))} ${address}`;

const count = (value: number): string => value.toLocaleString('en');

/** At most as many lines as a screen has, none wider than it. */
export function renderBlock(state: LiveState, { columns, rows }: Screen, paint: Paint): string[] {
  const room = Math.max(1, rows - 3);
  const foot = [
    ...state.spent.map((line) => `  ${paint('dim', 'Epsilon'.padEnd(titleWidth))} ${line}`),
    ...state.links.map((link) => `  ${describeLink(link, paint)}`),
  ];
  // Who has a few lines only sees what runs.
  const kept = room - foot.length >= 4 ? foot : [];
  const rest = room - kept.length;
  const running = state.running.map((step) => `  ${describeRunning(step, paint)}`);
  const groups = fit(groupLines(state.groups, paint), Math.max(rest >> 1, rest - running.length), 'steps', paint);
  const steps = fit(running, rest - groups.length, 'instances run', paint);
  return [headLine(state, paint), ...groups, ...steps, ...kept].map((line) => cut(line, columns - 1));
}

function headLine({ groups, left }: LiveState, paint: Paint): string {
  const { total, done, failed, leftOut } = sumOf(groups);
  const lost = failed + leftOut === 0 ? '' : paint('red', `, ${count(failed + leftOut)} failed or skipped`);
  const ahead = left === null ? '' : `, ${leftText(left)}`;
  return `${bar(done / Math.max(1, total), 24, paint)} ${count(done)}/${count(total)} instances${lost}${ahead}`;
}

/** Steps at which something happens first, so that they are seen where not all fit. */
function groupLines(groups: readonly StepGroup[], paint: Paint): string[] {
  const width = Math.min(24, Math.max(0, ...groups.map(({ step }) => step.length)));
  const isActive = ({ running, failed }: StepGroup): boolean => running + failed > 0;
  const ordered = [...groups.filter(isActive), ...groups.filter((group) => !isActive(group))];
  return ordered.map((group) => `  ${group.step.padEnd(width)} ${describeGroup(group, paint)}`);
}

function describeGroup(group: StepGroup, paint: Paint): string {
  const { total, done, running, failed, leftOut } = group;
  const waiting = waitingOf(group);
  const parts = [
    done === total ? paint('green', `${count(done)}/${count(total)} done`) : `${count(done)}/${count(total)} done`,
    ...(running > 0 ? [paint('cyan', `${count(running)} running`)] : []),
    ...(waiting > 0 ? [paint('dim', `${count(waiting)} waiting`)] : []),
    ...(failed > 0 ? [paint('red', `${count(failed)} failed`)] : []),
    ...(leftOut > 0 ? [paint('yellow', `${count(leftOut)} skipped`)] : []),
  ];
  return parts.join(', ');
}

const describeRunning = ({ node, progress, rate }: RunningStep, paint: Paint): string =>
  progress === null ? `${node} ${paint('dim', 'starting')}` : describeProgress(progress, rate);

/** `generator[seed=1] train 412/1,000 steps, 3.1 steps/s` */
export function describeProgress({ node, phase, done, total, unit }: LiveProgress, rate: number | null = null): string {
  const far = total > 0 ? ` ${count(Math.round(10 * done) / 10)}/${count(total)} ${unit}` : '';
  return `${node} ${phase}${far}${rate === null ? '' : `, ${describeRate(rate, unit)}`}`;
}

/** By the second, minute or hour, so that the figure is 1 at least. */
export function describeRate(perSecond: number, unit: string): string {
  const spans = [
    ['s', 1],
    ['min', 60],
    ['h', 3600],
  ] as const;
  const [name, seconds] = spans.find(([, span]) => perSecond * span >= 1) ?? spans[2];
  const value = perSecond * seconds;
  return `${value >= 100 ? count(Math.round(value)) : Number(value.toPrecision(2))} ${unit}/${name}`;
}

/** The most that a plain line tells of one by one. */
const mostInLine = 4;

/** Where there is no screen. */
export function renderLine({ groups, running, left, spent }: LiveState): string {
  const { total, done } = sumOf(groups);
  const plain: Paint = (_style, text) => text;
  const active = groups.filter((group) => group.running + group.failed > 0);
  const parts = [
    `... ${count(done)} of ${count(total)} instances done${left === null ? '' : `, ${leftText(left)}`}`,
    ...few(
      active.map((group) => `${group.step} ${describeGroup(group, plain)}`),
      'steps',
    ),
    ...spent.map((line) => `epsilon ${line}`),
    ...few(
      running.map((step) => describeRunning(step, plain)),
      'running',
    ),
  ];
  return parts.join('; ');
}

const few = (parts: readonly string[], what: string): string[] =>
  parts.length <= mostInLine
    ? [...parts]
    : [...parts.slice(0, mostInLine), `and ${count(parts.length - mostInLine)} more ${what}`];

/** As many lines as there is room for; the last of them says how many are left out. */
function fit(lines: readonly string[], room: number, what: string, paint: Paint): string[] {
  if (lines.length <= room) return [...lines];
  if (room <= 0) return [];
  return [...lines.slice(0, room - 1), paint('dim', `  ${count(lines.length - room + 1)} more ${what}`)];
}

function bar(fraction: number, width: number, paint: Paint): string {
  const filled = Math.round(Math.min(1, fraction) * width);
  return paint('green', '█'.repeat(filled)) + paint('dim', '░'.repeat(width - filled));
}

const colour = /(\u001b\[\d+m)/;

/** Characters that show; colour codes count none. */
export const widthOf = (line: string): number =>
  line.split(colour).reduce((width, part) => width + (part.startsWith('\u001b') ? 0 : part.length), 0);

/** Cuts to a number of characters that show. */
function cut(line: string, width: number): string {
  let left = width;
  return line
    .split(colour)
    .map((part) => {
      if (part.startsWith('\u001b')) return part;
      const kept = part.slice(0, Math.max(0, left));
      left -= part.length;
      return kept;
    })
    .join('');
}
