/** @file Activities that keep a run's event log, its report, and its place in the tracker. */

import { writeDurably } from '../store/disk.ts';
import type { RunEvent } from '../tracking/events.ts';
import { publishRun } from '../tracking/publish.ts';
import { writeReport } from '../tracking/report.ts';
import type { ControlActivities, SettledNode } from './contract.ts';
import { linksFile, logEvents, runDirectory, type WorkerParts } from './worker-parts.ts';

type RunRecording = Pick<
  ControlActivities,
  | 'startRun'
  | 'recordSettled'
  | 'recordPause'
  | 'recordAwaited'
  | 'recordApproval'
  | 'endRun'
  | 'writeRunReport'
  | 'publishToTracker'
>;

export function createRunRecording({ store, ledger, trackerUri }: WorkerParts): RunRecording {
  return {
    async startRun(run) {
      logEvents(run, await store.loadPlan(run.planDigest), [{ type: 'run-started', time: Date.now(), ...run }]);
    },

    async recordSettled(run, settled) {
      const time = Date.now();
      const events = settled.map((node) => eventOf(node, time));
      logEvents(run, await store.loadPlan(run.planDigest), events);
    },

    async recordPause(run, paused) {
      const type = paused ? 'run-paused' : 'run-resumed';
      logEvents(run, await store.loadPlan(run.planDigest), [{ type, time: Date.now() }]);
    },

    async recordAwaited(run, awaited) {
      const event = { type: 'approval-awaited', time: Date.now(), ...awaited } as const;
      logEvents(run, await store.loadPlan(run.planDigest), [event]);
    },

    async recordApproval(run, approval) {
      logEvents(run, await store.loadPlan(run.planDigest), [{ type: 'approved', ...approval }]);
    },

    async endRun(run, status) {
      logEvents(run, await store.loadPlan(run.planDigest), [{ type: 'run-completed', time: Date.now(), status }]);
    },

    async writeRunReport(run) {
      await writeReport(runDirectory(run), await store.loadPlan(run.planDigest), { store, ledger });
    },

    async publishToTracker(run) {
      const uri = await trackerUri();
      if (uri === null) return;
      const links = await publishRun(runDirectory(run), await store.loadPlan(run.planDigest), store, uri);
      await writeDurably(linksFile(runDirectory(run)), JSON.stringify(links, null, 2) + '\n');
    },
  };
}

function eventOf(settled: SettledNode, time: number): RunEvent {
  switch (settled.end) {
    case 'failed':
      return { type: 'node-failed', time, node: settled.node, code: settled.code, message: settled.message };
    case 'cancelled':
      return { type: 'node-cancelled', time, node: settled.node };
    case 'skipped':
      return { type: 'node-skipped', time, node: settled.node, because: settled.because };
  }
}
