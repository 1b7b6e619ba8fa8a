/**
 * @file Rows of the privacy ledger that runs have left word of in Temporal's histories and in the tracker: they tell an
 * older copy of the ledger also where the run state is lost.
 */

import { Client, type Connection } from '@temporalio/client';
import type { KnownHead, RememberedHead } from '../privacy/ledger/index.ts';
import { headsInTracker } from '../tracking/mlflow/ledger-heads.ts';
import { connectMlflow } from '../tracking/mlflow/client.ts';
import type { Services, TemporalService } from './services.ts';
import { openConnection } from './temporal-connection.ts';

/** Workflows that are looked at: as Temporal lists them, those under way first, then those that ended last. */
const workflowsAsked = 100;

/**
 * Events at the end of each history that are looked at: a workflow that has ended writes fewer after its last word on
 * the ledger. That of one under way may lie before them, while those of its private steps do not.
 */
const eventsAsked = 100;

/** Histories fetched at once. */
const concurrency = 10;

/** Milliseconds for the whole of Temporal, and for a request to the tracker. */
const patience = 20_000;

export interface RecordedHeads {
  heads: RememberedHead[];
  /** Who could not be asked, and why: sentences for people. */
  unasked: string[];
}

/**
 * What the newest workflows and the newest runs of the tracker say of a ledger. It throws nothing for a service that
 * doesn't answer: that is told in `unasked`.
 *
 * @param ledger its identity; rows of other ledgers are left out
 * @param services null: doesn't answer
 */
export async function recordedHeads(
  ledger: string,
  { temporal, mlflow }: { temporal: Services['temporal'] | null; mlflow: Services['mlflow'] },
): Promise<RecordedHeads> {
  const answers = await Promise.allSettled([
    temporal === null ? silent('it does not answer') : headsInHistories(ledger, temporal),
    mlflow === null
      ? silent('it does not answer')
      : headsInTracker(connectMlflow(mlflow.uri, { attempts: 2, timeout: patience }), ledger),
  ]);
  const hasTracker = process.env['MLFLOW_TRACKING_URI'] !== 'none';
  const heads: RememberedHead[] = [];
  const unasked: string[] = [];
  for (const [place, answer] of answers.entries()) {
    if (answer.status === 'fulfilled') heads.push(...answer.value);
    else if (place === 0 || hasTracker) {
      const name = place === 0 ? 'Temporal' : 'the tracker';
      const why = answer.reason instanceof Error ? answer.reason.message : String(answer.reason);
      const told = why.replace(/\.$/, '');
      unasked.push(`The privacy ledger was not compared with what ${name} remembers of it: ${told}.`);
    }
  }
  return { heads, unasked };
}

const silent = (why: string): Promise<never> => Promise.reject(new Error(why));

async function headsInHistories(ledger: string, { address, namespace }: TemporalService): Promise<RememberedHead[]> {
  const connection = await openConnection(address, { connectTimeout: 5_000 });
  try {
    return await connection.withDeadline(Date.now() + patience, async () => {
      const client = new Client({ connection, namespace });
      const found: RememberedHead[] = [];
      const queue = newestWorkflows(client);
      const lane = async (): Promise<void> => {
        for await (const { workflowId, runId } of queue) {
          const head = await lastHead(connection, { namespace, workflowId, runId }, ledger);
          if (head !== null) found.push({ ...head, source: `Temporal's history of ${workflowId}` });
        }
      };
      await Promise.all(Array.from({ length: concurrency }, lane));
      return found;
    });
  } finally {
    await connection.close();
  }
}

interface Execution {
  workflowId: string;
  runId: string;
}

async function* newestWorkflows(client: Client): AsyncGenerator<Execution> {
  let count = 0;
  const query = 'WorkflowType IN ("experimentWorkflow", "privateStep")';
  for await (const { workflowId, runId } of client.workflow.list({ query, pageSize: workflowsAsked })) {
    yield { workflowId, runId };
    if ((count += 1) === workflowsAsked) return;
  }
}

async function lastHead(
  { workflowService }: Connection,
  { namespace, ...execution }: Execution & { namespace: string },
  ledger: string,
): Promise<KnownHead | null> {
  const { history } = await workflowService.getWorkflowExecutionHistoryReverse({
    namespace,
    execution,
    maximumPageSize: eventsAsked,
  });
  // Children tell theirs in any order.
  let last: KnownHead | null = null;
  for (const event of history?.events ?? []) {
    for (const payload of payloadsOf(event)) {
      const head = headIn(payload);
      if (head?.ledger === ledger && head.sequence > (last?.sequence ?? -1)) last = head;
    }
  }
  return last;
}

type History = NonNullable<
  Awaited<ReturnType<Connection['workflowService']['getWorkflowExecutionHistoryReverse']>>['history']
>;
type HistoryEvent = NonNullable<History['events']>[number];
type Payload = NonNullable<
  NonNullable<NonNullable<HistoryEvent['activityTaskCompletedEventAttributes']>['result']>['payloads']
>[number];

/** What ledger activities, children and the starter of a workflow have told it. */
function payloadsOf(event: HistoryEvent): Payload[] {
  const told =
    event.activityTaskCompletedEventAttributes?.result ??
    event.childWorkflowExecutionCompletedEventAttributes?.result ??
    event.workflowExecutionSignaledEventAttributes?.input ??
    event.workflowExecutionStartedEventAttributes?.input;
  return told?.payloads ?? [];
}

function headIn({ metadata, data }: Payload): KnownHead | null {
  if (Buffer.from(metadata?.['encoding'] ?? []).toString() !== 'json/plain') return null;
  const value = JSON.parse(Buffer.from(data ?? []).toString()) as { ledgerHead?: unknown } | null;
  const { ledger, sequence, hash } = (value?.ledgerHead ?? value ?? {}) as Partial<KnownHead>;
  const isHead = typeof ledger === 'string' && Number.isSafeInteger(sequence) && typeof hash === 'string';
  return isHead ? { ledger, sequence: sequence!, hash } : null;
}
