/** @file Activities that keep a run's event log, its report, and its place in the tracker. */

import type { Plan } from '../schemas/plan.ts';
import { writeDurably } from '../store/disk.ts';
import type { RunEvent } from '../tracking/events.ts';
import { publishRun } from '../tracking/publish.ts';
import { writeReport } from '../tracking/report.ts';
import type { ControlActivities, RunIdentity, SettledNode } from './contract.ts';
import { keepRun, offerLogs, takeLogs } from './log-sharing.ts';
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

export function createRunRecording(parts: WorkerParts): RunRecording {
  const { store, ledger, trackerUri } = parts;
  const planOf = ({ planDigest }: RunIdentity): Promise<Plan> => store.loadPlan(planDigest);
  /** After what other hosts have said so far. */
  const log = async (run: RunIdentity, events: readonly RunEvent[]): Promise<void> => {
    await keepRun(parts, run);
    await takeLogs(parts, run).catch(() => undefined);
    logEvents(run, await planOf(run), events);
    await offerLogs(parts, run);
  };
  return {
    async startRun(run) {
      await log(run, [{ type: 'run-started', time: Date.now(), ...run }]);
    },

    async recordSettled(run, settled) {
      const time = Date.now();
      await log(
        run,
        settled.map((node) => eventOf(node, time)),
      );
    },

    async recordPause(run, paused) {
      await log(run, [{ type: paused ? 'run-paused' : 'run-resumed', time: Date.now() }]);
    },

    async recordAwaited(run, awaited) {
      await log(run, [{ type: 'approval-awaited', time: Date.now(), ...awaited }]);
    },

    async recordApproval(run, approval) {
      await log(run, [{ type: 'approved', ...approval }]);
    },

    async endRun(run, status) {
      await log(run, [{ type: 'run-completed', time: Date.now(), status }]);
      // Missed, other hosts keep checkpoints longer than they need.
      await store.runs.end(run).catch(() => undefined);
    },

    async writeRunReport(run) {
      await keepRun(parts, run);
      await takeLogs(parts, run);
      await writeReport(runDirectory(run), await planOf(run), { store, ledger });
    },

    async publishToTracker(run) {
      const uri = await trackerUri();
      if (uri === null) return;
      await keepRun(parts, run);
      await takeLogs(parts, run);
      const links = await publishRun(runDirectory(run), await planOf(run), store, uri);
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
