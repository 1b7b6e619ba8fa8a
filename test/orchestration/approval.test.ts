import { readFileSync } from 'node:fs';
import { Client, Connection } from '@temporalio/client';
import { expect, it } from 'vitest';
import { openLedger } from '../../privacy/ledger/index.ts';
import { ledgerUrl } from '../../stack/paths.ts';
import { ensureTemporal } from '../../stack/services.ts';
import { readEvents } from '../../tracking/events.ts';
import { epsilonflowJson, generatorStep, specHead, syntheticStep } from './tiny-experiment.ts';
import { worldOfTests } from './world-of-tests.ts';

const head = specHead('asks').replace('budget:', 'soft-budget: 1.5, budget:');

/** Two things to approve: the epsilon of 2 beforehand, and the synthetic set afterwards. */
const spec = `${head}
steps:
${generatorStep({ steps: 2 })}${syntheticStep('approval: required')}`;

interface Outcome {
  run: string;
  status: string;
  directory: string;
  workflowId: string;
  counts: Record<string, number>;
  awaiting: { steps: string[]; accounts: { account: string; epsilon: number; softBudget: number }[] } | null;
  approvals: { author: string; reason: string; steps: string[] }[];
  links: { report: string };
  errors: object[];
}

const world = worldOfTests();

const command = (...args: string[]): ReturnType<typeof epsilonflowJson<Outcome>> => epsilonflowJson(world(), ...args);

it('waits above a soft budget and before a step that needs approval, and records who let it go on and why', async () => {
  const file = world().write('asks.yaml', spec);
  const first = await command('run', file);
  expect(first).toMatchObject({ code: 6, status: 'waiting', counts: { completed: 0 } });
  expect(first.awaiting).toMatchObject({ steps: [], accounts: [{ account: 'weather', softBudget: 1.5 }] });
  expect(first.awaiting!.accounts[0]!.epsilon).toBeGreaterThan(1.5);
  const ledger = await openLedger(ledgerUrl());
  // Nothing is reserved before.
  expect((await ledger.accountSummary('weather'))?.experiments ?? []).toEqual([]);

  const approved = ['--reason', 'agreed on in May', '--author', 'ada@lab'];
  expect(await command('approve', 'asks', ...approved)).toMatchObject({ code: 0, run: 'asks/1', steps: [] });
  const second = await command('run', file);
  expect(second).toMatchObject({ code: 6, run: 'asks/1', status: 'waiting', counts: { completed: 1 } });
  expect(second.awaiting).toEqual({ steps: ['synthetic'], accounts: [] });
  expect(await command('status', 'asks')).toMatchObject({ status: 'waiting', awaiting: second.awaiting });
  expect(readEvents(second.directory).events.filter((event) => event.type === 'node-started')).toHaveLength(1);
  const { address } = await ensureTemporal();
  const client = new Client({ connection: await Connection.connect({ address }) });
  const handle = client.workflow.getHandle(second.workflowId);
  const details = await handle.query<{ currentDetails: string }>('__temporal_workflow_metadata');
  expect(details.currentDetails).toContain('**Waits for approval** of step synthetic');
  expect(details.currentDetails).toMatch(/approved by ada@lab at .*: agreed on in May/);
  await client.connection.close();

  expect(await command('approve', 'asks/1', '--reason', 'looks right')).toMatchObject({ steps: ['synthetic'] });
  const third = await command('run', file);
  expect(third).toMatchObject({ code: 0, status: 'completed', awaiting: null, counts: { completed: 2 } });
  expect(third.approvals).toMatchObject([{ author: 'ada@lab', reason: 'agreed on in May' }, { reason: 'looks right' }]);
  const report = readFileSync(third.links.report, 'utf8');
  expect(report).toContain('ada@lab');
  expect(report).toContain('agreed on in May');
  await ledger.close();
}, 300_000);

it('starts without approval what nothing asks it for, and refuses an approval that nothing waits for', async () => {
  const reused = await command('run', world().write('again.yaml', spec.replace('name: asks', 'name: again')));
  expect(reused).toMatchObject({ code: 0, counts: { completed: 2, reused: 2 }, approvals: [] });
  const late = await command('approve', 'again', '--reason', 'too late');
  expect(late).toMatchObject({ code: 2, errors: [{ code: 'ARGUMENT_INVALID' }] });
}, 120_000);
