import { afterEach, beforeEach, expect, it } from 'vitest';
import { claimRunNumber, listRuns, resolveRun, writeRun } from '../../tracking/runs.ts';
import { ownState } from './made-up-run.ts';

let removeState: () => void;
beforeEach(() => {
  removeState = ownState();
});
afterEach(() => removeState());

const start = (name: string, minute: number): void => {
  const number = claimRunNumber(name);
  const record = {
    ...{ name, number, workflowId: `w-${name}-${number}`, planDigest: 'd', specFile: '/x.yaml' },
    startedAt: new Date(Date.UTC(2026, 0, 1, 0, minute)).toISOString(),
  };
  writeRun(record, 'version: 1\n');
};

it('finds runs by name and number, by name, and the latest of all', () => {
  start('reviews', 1);
  start('mails', 2);
  start('reviews', 3);
  start('mails', 4);
  const named = (reference: string): string => {
    const { record } = resolveRun(reference);
    return `${record.name}/${record.number}`;
  };
  expect(['reviews/1', 'reviews', 'mails/2', 'latest', 'reviews/latest'].map(named)).toEqual([
    'reviews/1',
    'reviews/2',
    'mails/2',
    'mails/2',
    'reviews/2',
  ]);
});

it('names the nearest run when there is no such one', () => {
  expect(() => resolveRun('latest')).toThrow(expect.objectContaining({ code: 'RUN_UNKNOWN', exitCode: 2 }));
  start('reviews', 1);
  expect(() => resolveRun('reviwes/1')).toThrow(expect.objectContaining({ hint: 'Did you mean reviews/1?' }));
  expect(() => resolveRun('reviews/7')).toThrow(expect.objectContaining({ code: 'RUN_UNKNOWN' }));
});

it('gives each number once and takes a claimed folder without a record for no run', () => {
  expect([claimRunNumber('reviews'), claimRunNumber('reviews')]).toEqual([1, 2]);
  expect(listRuns()).toEqual([]);
  start('reviews', 1);
  expect(listRuns().map(({ record }) => record.number)).toEqual([3]);
});
