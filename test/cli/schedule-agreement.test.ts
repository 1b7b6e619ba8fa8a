/** What was agreed to for the firings of a schedule binds more than an epsilon by the dataset's name. */

import { beforeAll, expect, it, vi } from 'vitest';

import type { ScheduledSpec } from '../../activities/contract.ts';
import { registerPlan } from '../../cli/registrations.ts';
import { agreeToFirings, requireAgreed } from '../../cli/schedule-agreement.ts';
import { compileRun } from '../../cli/show-run.ts';
import { workspaceOfTests } from '../compiler/workspace-of-tests.ts';

const workspace = workspaceOfTests();

interface Options {
  sensitivity?: string;
  file?: string;
  size?: number;
  delta?: string;
  epsilon?: string;
  release?: string;
  measure?: boolean;
  waive?: string[];
}

const spec = ({
  sensitivity = 'private',
  file = 'patients',
  size = 20_000,
  delta = '',
  epsilon = '2',
  release = ', release: { epsilon: 0.1 }',
  measure = false,
  waive = [],
}: Options): string => `version: 1
name: nightly
datasets:
  patients:
    files: { train: ${file}.jsonl, test: ${file}-test.jsonl }
    label: { values: [neg, pos] }
    sensitivity: ${sensitivity}
    privacy: { size: ${size}${delta && `, delta: ${delta}`}, budget: { epsilon: 100 } }
  corpus: { files: { train: corpus.jsonl }, sensitivity: public }
models:
  base: { path: model }
steps:
  generator: { uses: finetune, with: { model: base, data: patients, epsilon: ${epsilon} } }
  synthetic: { uses: generate, with: { generator: "\${{ steps.generator }}", count: 10 } }
  on-real: { uses: train-classifier, with: { train: patients, test: patients, epsilon: ${epsilon}${release} } }
${measure ? '  nearness: { uses: measure, with: { synthetic: "${{ steps.synthetic }}", real: patients } }\n' : ''}
${waive.length > 0 ? `waive: [${waive.map((name) => `{ name: ${name}, reason: cleared }`).join(', ')}]\n` : ''}`;

const records = (from: number, to: number): string =>
  Array.from({ length: to - from }, (_, row) =>
    JSON.stringify({ text: `what patient ${from + row} said`, label: row % 2 ? 'pos' : 'neg' }),
  ).join('\n') + '\n';

const compiled = async (options: Options = {}) => compileRun(workspace.write('nightly.yaml', spec(options)), undefined);

/** What `schedule create --spend` keeps, and what it shows. */
async function agree(options: Options = {}): Promise<{ agreed: ScheduledSpec['agreed']; shown: string }> {
  let shown = '';
  const write = vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    shown += String(text);
    return true;
  });
  try {
    return { agreed: await agreeToFirings((await compiled(options)).compiled, true), shown };
  } finally {
    write.mockRestore();
  }
}

async function firing(agreed: ScheduledSpec['agreed'], options: Options): Promise<void> {
  requireAgreed((await compiled(options)).compiled, agreed);
}

const refused = (message: RegExp): object => ({
  code: 'SPENDING_UNCONFIRMED',
  message: expect.stringMatching(message) as string,
});

beforeAll(() => {
  for (const [name, first] of Object.entries({ patients: 0, clients: 1000 })) {
    workspace.write(`${name}.jsonl`, records(first, first + 300));
    workspace.write(`${name}-test.jsonl`, records(first + 300, first + 400));
  }
});

it('shows epsilon, delta, sensitivity and waivers of each account, and passes what was agreed to', async () => {
  const { agreed, shown } = await agree({ measure: true, waive: ['measures'] });
  expect(shown).toMatch(/as planned: the account may count more/);
  expect(shown).toMatch(
    / {2}patients \(private\): epsilon [\d.]+ at delta 5\.05e-6; its budget is 100\n.*waiver measures/,
  );
  expect(shown).toMatch(/ {2}patients\/test \(private\): epsilon 0\.1 at delta .*\n.*waiver measures/);
  expect(agreed['patients/test']).toEqual({
    epsilon: 0.1,
    delta: 1 / (20_000 * Math.log(20_000)),
    ledgerAccount: 'patients/test',
    sensitivity: 'private',
    waivers: ['measures'],
  });
  await firing(agreed, { measure: true, waive: ['measures'] });
  await firing(agreed, {});
});

it('refuses a waiver that was not agreed to, though the charge falls', async () => {
  const { agreed } = await agree();
  await expect(firing(agreed, { release: '', waive: ['test-metrics'] })).rejects.toMatchObject(
    refused(/exact figures of patients\/test were not agreed to, which test-metrics waives/),
  );
  await expect(firing(agreed, { measure: true, waive: ['measures'] })).rejects.toMatchObject(
    refused(/exact figures of patients were not agreed to, which measures waives/),
  );
});

it('holds less noise against the delta that was agreed to', async () => {
  const { agreed } = await agree();
  await expect(firing(agreed, { delta: '4e-5' })).rejects.toMatchObject(
    refused(/epsilon [\d.]+ at delta 5\.05e-6 was agreed to for patients; it would charge epsilon [\d.]+ at delta 5/),
  );
  await expect(firing(agreed, { size: 5000 })).rejects.toMatchObject(refused(/agreed to for patients/));
  await expect(firing(agreed, { epsilon: '.inf', waive: ['non-private-training'] })).rejects.toMatchObject(
    refused(/it would charge without bound/),
  );
  await firing(agreed, { delta: '1e-6' });
  await firing(agreed, { epsilon: '1' });
});

it('refuses what was agreed to of a benchmark, without bound or not, once the dataset is private', async () => {
  const benchmark = { sensitivity: 'benchmark', release: '' };
  for (const epsilon of ['.inf', '2']) {
    const { agreed } = await agree({ ...benchmark, epsilon });
    await firing(agreed, { ...benchmark, epsilon });
    await expect(firing(agreed, { epsilon, waive: ['non-private-training'] })).rejects.toMatchObject(
      refused(/patients was agreed to as benchmark; now it is private/),
    );
  }
  const { agreed } = await agree();
  await expect(firing(agreed, { sensitivity: 'public' })).rejects.toMatchObject(
    refused(/patients was agreed to as private; now it is public/),
  );
});

it('refuses numbers, which schedules of old versions have', async () => {
  for (const most of [null, 50]) {
    await expect(firing({ patients: most, 'patients/test': most }, {})).rejects.toMatchObject(
      refused(/nothing was agreed to for patients/),
    );
  }
});

it('refuses files whose records another account of the ledger pays for', async () => {
  const { agreed } = await agree();
  const clients = spec({ file: 'clients' }).replaceAll('patients:', 'clients:').replaceAll(': patients', ': clients');
  const other = await compileRun(workspace.write('clients.yaml', clients), undefined);
  await registerPlan(other.compiled.plan, other.registrations, () => undefined);
  await expect(firing(agreed, { file: 'clients' })).rejects.toMatchObject(
    refused(/account patients of the ledger was agreed to; the records of patients belong to account clients now/),
  );
  expect((await agree({ file: 'clients' })).shown).toMatch(/patients \(private, account clients of the ledger\)/);
});
