import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ExperimentResult } from '../../activities/contract.ts';
import { offlineHost } from '../../cli/compile-host.ts';
import { compileSpec } from '../../compiler/index.ts';
import { openLedger } from '../../privacy/ledger/index.ts';
import { ledgerUrl, statePaths } from '../../stack/paths.ts';
import { ensureTemporal, stopServices } from '../../stack/services.ts';
import { ensureWorker, stopWorker } from '../../stack/worker-process.ts';
import { openStore } from '../../store/index.ts';
import { readEvents } from '../../tracking/events.ts';
import { writeRun } from '../../tracking/runs.ts';
import { generatorStep, openTinyWorld, specHead, type TinyWorld } from './tiny-experiment.ts';

const spec = `${specHead('turns')}
matrix:
  epsilon: [2, 4, 6]
steps:
${generatorStep({ epsilon: '"${{ matrix.epsilon }}"' })}
  synthetic:
    uses: generate
    with: { generator: "\${{ steps.generator }}", count: 40, maxTokens: 12, temperature: 1, seed: 1 }
`;

let world: TinyWorld;

beforeAll(async () => {
  world = await openTinyWorld({ train: 300, withModel: true });
});
afterAll(async () => {
  await stopWorker();
  await stopServices();
  world.remove();
});

it('goes on training while the experiment continues as new, and is charged once', async () => {
  const plan = await compileSpec({ file: world.write('turns.yaml', spec) }, offlineHost());
  await openStore().savePlan(plan);
  const run = { name: 'turns', number: 1, workflowId: 'turns/1-test', planDigest: plan.digest };
  writeRun({ ...run, specFile: plan.spec.file, startedAt: new Date().toISOString() }, spec);
  const temporal = await ensureTemporal();
  await ensureWorker(temporal);
  const client = new Client({ connection: await Connection.connect({ address: temporal.address }) });
  const { workflowId } = run;
  const options = { args: [run, null, { events: 8 }], workflowId, taskQueue: 'control' };
  const handle = await client.workflow.start('experimentWorkflow', options);
  expect((await handle.result()) as ExperimentResult).toMatchObject({ status: 'completed', completed: 6 });
  const statuses: string[] = [];
  for await (const each of client.workflow.list({ query: 'WorkflowType = "experimentWorkflow"' }))
    statuses.push(each.status.name);
  expect(statuses.filter((status) => status === 'CONTINUED_AS_NEW').length).toBeGreaterThanOrEqual(2);
  await client.connection.close();

  const { events } = readEvents(statePaths.run('turns', 1));
  const startedNodes = events.flatMap((event) => (event.type === 'node-started' ? [event.node] : []));
  expect(startedNodes.sort()).toEqual(plan.nodes.map(({ id }) => id).sort());
  const ledger = await openLedger(ledgerUrl());
  const account = await ledger.accountSummary('weather');
  expect(account?.experiments.map(({ entries }) => entries)).toEqual([
    { reserved: 0, begun: 0, committed: 3, released: 0 },
  ]);
  await ledger.verify();
  await ledger.close();
}, 240_000);
