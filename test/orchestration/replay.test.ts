import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  bundleWorkflowCode,
  DefaultLogger,
  Runtime,
  Worker,
  type WorkflowBundleWithSourceMap,
} from '@temporalio/worker';
import { beforeAll, describe, expect, it } from 'vitest';

/**
 * Histories of real runs, named for the workflow, what happened, and the version that wrote them; made by
 * `temporal workflow show --workflow-id ID --output json`, without the folder of the project in stack traces. Code that cannot replay one of them would break runs that
 * are under way: such a change needs `patched` of the Temporal SDK.
 */
const folder = fileURLToPath(new URL('histories', import.meta.url));
const names = readdirSync(folder).filter((name) => name.endsWith('.json'));

interface RecordedHistory {
  events: { workflowExecutionStartedEventAttributes?: { workflowId: string; workflowType: { name: string } } }[];
}

const read = (name: string): RecordedHistory => JSON.parse(readFileSync(join(folder, name), 'utf8')) as RecordedHistory;

/** Ids of children are made from the id of the workflow itself. */
const replay = (history: RecordedHistory): Promise<void> =>
  Worker.runReplayHistory(
    { workflowBundle },
    history,
    history.events[0]?.workflowExecutionStartedEventAttributes?.workflowId,
  );

let workflowBundle: WorkflowBundleWithSourceMap;

beforeAll(async () => {
  const logger = new DefaultLogger('ERROR');
  Runtime.install({ logger });
  const workflowsPath = fileURLToPath(new URL('../../workflows/index.ts', import.meta.url));
  workflowBundle = await bundleWorkflowCode({ workflowsPath, logger });
});

it.each(names)('%s names no folder of a machine', (name) => {
  expect(readFileSync(join(folder, name), 'utf8')).not.toMatch(/\(\/[^)]*\.[jt]s:/);
});

describe('workflow code', () => {
  it.each(names)('replays %s', async (name) => {
    await replay(read(name));
  });

  it('has a recorded history of each workflow that it registers', async () => {
    const types = new Set(
      names.map((name) => read(name).events[0]!.workflowExecutionStartedEventAttributes!.workflowType.name),
    );
    const registered = Object.entries(await import('../../workflows/index.ts')).flatMap(([name, value]) =>
      typeof value === 'function' ? [name] : [],
    );
    expect([...types].sort()).toEqual(registered.sort());
  });

  it('is seen not to replay a history that it could not have written', async () => {
    const history = read('experiment-run-0.1.0.json');
    const changed = JSON.parse(JSON.stringify(history).replaceAll('"reserveBudget"', '"payLater"')) as RecordedHistory;
    await expect(replay(changed)).rejects.toThrow(/[Nn]ondeterminis/);
  });
});
