import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { beforeAll, describe, expect, it, vi } from 'vitest';

import { withCompileHost } from '../../cli/compile-host.ts';
import { main } from '../../cli/main.ts';
import { registerPlan } from '../../cli/registrations.ts';
import { compile } from '../../compiler/index.ts';
import { markerName } from '../../privacy/ledger/marker.ts';
import { openProjectLedger } from '../../stack/project-ledger.ts';
import { showEpsilon, showRemaining } from '../../tracking/wording.ts';
import { workspaceOfTests } from '../compiler/workspace-of-tests.ts';
import { entry, envelope } from '../privacy/ledger-fixture.ts';

const workspace = workspaceOfTests();
const ledgerFolder = join(workspace.folder, 'ledger');
const planted = 'the very private words of one person';

interface Outcome {
  code: number;
  printed: Record<string, unknown>;
  output: string;
}

/** What the command prints, in the folder of the specs, and its exit code. */
async function output(...args: string[]): Promise<{ code: number; text: string }> {
  let text = '';
  const write = vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    text += String(chunk);
    return true;
  });
  process.exitCode = undefined;
  await main(args);
  const code = Number(process.exitCode ?? 0);
  process.exitCode = undefined;
  write.mockRestore();
  return { code, text };
}

async function epsilonflow(...args: string[]): Promise<Outcome> {
  const { code, text } = await output(...args, '--json');
  return { code, printed: JSON.parse(text) as Record<string, unknown>, output: text };
}

const specOf = (name: string, train: string): string => `version: 1
name: ${name}
datasets:
  ${name}:
    files: { train: ${train} }
    label: { values: [neg, pos] }
    privacy: { size: 20000, budget: { epsilon: 10 } }
models:
  base: { path: model }
steps:
  generator:
    uses: finetune
    with: { model: base, data: ${name}, epsilon: 2, seed: 1 }
`;

const rows = (texts: string[]): string =>
  texts.map((text, row) => `${JSON.stringify({ text, label: row % 2 === 0 ? 'neg' : 'pos' })}\n`).join('');

beforeAll(async () => {
  workspace.write('reviews.jsonl', rows([planted, 'two', 'three', 'four']));
  workspace.write('opinions.jsonl', rows([planted, 'two', 'three', 'five']));
  workspace.write('opinions.yaml', specOf('opinions', 'opinions.jsonl'));
  const file = workspace.write('reviews.yaml', specOf('reviews', 'reviews.jsonl'));
  await withCompileHost(async (host) => {
    const { plan } = await compile({ file }, host);
    await registerPlan(plan, host.registrations, () => undefined);
    const { digest } = plan.datasets['reviews']!;
    const ledger = await openProjectLedger(join(workspace.folder, markerName));
    await ledger.reserve(envelope('reviews/1', [entry('a')], 10, { digest }));
    await ledger.close();
  });
});

describe('records of another account', () => {
  it('are refused by plan with exit code 3, a hint and no private word', async () => {
    const { code, printed, output } = await epsilonflow('plan', 'opinions.yaml');
    expect(code).toBe(3);
    expect(printed).toMatchObject({
      errors: [
        {
          code: 'DATASET_OVERLAP',
          message: expect.stringContaining('opinions shares records with account reviews') as string,
          hint: expect.stringContaining('epsilonflow ledger register') as string,
        },
      ],
    });
    expect(output).not.toContain(planted);
  });

  it('need a decision, which must say what it is', async () => {
    const undecided = await epsilonflow('ledger', 'register', 'opinions.yaml', 'opinions', '--reason', 'x');
    expect(undecided).toMatchObject({ code: 2, printed: { errors: [{ code: 'ARGUMENT_INVALID' }] } });
    const unknown = await epsilonflow(
      'ledger',
      'register',
      'opinions.yaml',
      'opinion',
      '--joins',
      'reviews',
      '--reason',
      'x',
    );
    expect(unknown).toMatchObject({ code: 2, printed: { errors: [{ hint: 'It has opinions, opinions/test.' }] } });
  });

  it('are spent on in the account that they join', async () => {
    const decided = ['--joins', 'reviews', '--author', 'board', '--reason', 'the same customers'];
    expect(await epsilonflow('ledger', 'register', 'opinions.yaml', 'opinions', ...decided)).toMatchObject({
      code: 0,
      printed: { dataset: 'opinions', account: 'reviews' },
    });
    const { code, printed } = await epsilonflow('plan', 'opinions.yaml');
    expect(code).toBe(0);
    const { before } = (printed['privacy'] as Record<string, { before: number }>)['opinions']!;
    expect(before).toBeGreaterThan(1);
  });
});

describe('private records that a spec calls public', () => {
  const corpus = (name: string): string => `  corpus: { files: { train: ${name} }, sensitivity: public }\n`;
  /** With the public dataset before or after the private one. */
  const mixed = (name: string, train: string, isFirst: boolean): string => {
    const spec = specOf(name, train);
    return isFirst
      ? spec.replace('datasets:\n', `datasets:\n${corpus(train)}`)
      : spec.replace('models:\n', `${corpus(train)}models:\n`);
  };
  const refused = (account: string): object => ({
    code: 3,
    printed: {
      errors: [
        {
          code: 'DATASET_OVERLAP',
          message: expect.stringMatching(`corpus is called public.*private data of account ${account}`) as string,
        },
      ],
    },
  });

  it('are refused where the ledger knows them', async () => {
    workspace.write('mixed.yaml', mixed('opinions', 'opinions.jsonl', true));
    const outcome = await epsilonflow('plan', 'mixed.yaml');
    expect(outcome).toMatchObject(refused('reviews'));
    expect(outcome.output).not.toContain(planted);
  });

  it.each([true, false])('are refused where the same spec calls them private (public first: %s)', async (isFirst) => {
    workspace.write('letters.jsonl', rows(['dear all', 'dear both', 'dear none', 'dear you']));
    workspace.write('letters.yaml', mixed('letters', 'letters.jsonl', isFirst));
    expect(await epsilonflow('plan', 'letters.yaml')).toMatchObject(refused('letters'));
  });

  it('are public once someone has said so', async () => {
    const decided = ['ledger', 'register', 'letters.yaml', 'corpus', '--author', 'board', '--reason', 'printed'];
    expect(await epsilonflow(...decided, '--joins', 'letters')).toMatchObject({ code: 2 });
    expect(await epsilonflow(...decided, '--apart-from', 'letters')).toMatchObject({ code: 0 });
    expect((await epsilonflow('plan', 'letters.yaml')).code).toBe(0);
  });
});

it('show gives each account with its experiments, and the tight figure of each plan', async () => {
  const { printed } = await epsilonflow('ledger', 'show');
  expect(printed).toMatchObject({
    identity: expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
    problems: [],
    accounts: [
      {
        account: 'reviews',
        budget: 10,
        experiments: [
          {
            workflowId: 'reviews/1',
            plan: { epsilon: expect.any(Number) as number, accountant: 'pld' },
            entries: { reserved: 1 },
          },
        ],
      },
    ],
  });
  expect((printed['accounts'] as { digests: string[] }[])[0]!.digests).toHaveLength(2);
});

it('show and plan round what was spent up, and what remains down', async () => {
  const { printed } = await epsilonflow('ledger', 'show');
  const [account] = printed['accounts'] as { total: number; remaining: number }[];
  const { text: shown } = await output('ledger', 'show');
  const [, total, remaining] = /together ([\d.]+).* remaining ([\d.]+)/.exec(shown)!.map(Number);
  expect(total! - account!.total).toBeGreaterThan(0);
  expect(total! - account!.total).toBeLessThan(0.001);
  expect(account!.remaining - remaining!).toBeGreaterThan(0);
  expect(account!.remaining - remaining!).toBeLessThan(0.001);
  const plan = await epsilonflow('plan', 'reviews.yaml');
  const { after } = (plan.printed['privacy'] as Record<string, { after: number }>)['reviews']!;
  const { text: planned } = await output('plan', 'reviews.yaml');
  const told = Number(/after +epsilon ([\d.]+)/.exec(planned)![1]);
  expect(told).toBeGreaterThan(after);
  expect(told).toBeLessThan(after + 0.001);
  expect([2.0004, 3].map(showEpsilon)).toEqual(['2.001', '3']);
  expect([2.9996, 3].map(showRemaining)).toEqual(['2.999', '3']);
});

it('an older copy is shown for what it is, refused, and used again once acknowledged', async () => {
  const copy = join(workspace.folder, 'copy');
  cpSync(ledgerFolder, copy, { recursive: true });
  const raise = ['ledger', 'set-budget', 'reviews', '12', '--reason', 'consent of May'];
  expect((await epsilonflow(...raise)).code).toBe(0);
  rmSync(ledgerFolder, { recursive: true });
  cpSync(copy, ledgerFolder, { recursive: true });

  expect((await epsilonflow('ledger', 'show')).printed).toMatchObject({ problems: [{ problem: 'rolled-back' }] });
  for (const command of [['ledger', 'verify'], raise, ['plan', 'reviews.yaml']]) {
    expect(await epsilonflow(...command)).toMatchObject({
      code: 3,
      printed: { errors: [{ code: 'LEDGER_ROLLED_BACK' }] },
    });
  }
  const acknowledged = await epsilonflow('ledger', 'acknowledge', '--author', 'board', '--reason', 'backup of May');
  expect(acknowledged).toMatchObject({ code: 0, printed: { acknowledged: [{ problem: 'rolled-back' }] } });
  expect(await epsilonflow('ledger', 'verify')).toMatchObject({ code: 0, printed: { intact: true } });
});

it('a lost ledger is refused by every command but the one that begins another', async () => {
  rmSync(ledgerFolder, { recursive: true });
  for (const command of [
    ['ledger', 'show'],
    ['ledger', 'verify'],
    ['plan', 'reviews.yaml'],
  ]) {
    expect(await epsilonflow(...command)).toMatchObject({
      code: 3,
      printed: { errors: [{ code: 'LEDGER_MISMATCH' }] },
    });
  }
  const acknowledged = await epsilonflow('ledger', 'acknowledge', '--reason', 'the disk is lost');
  expect(acknowledged).toMatchObject({ code: 0, printed: { acknowledged: [{ problem: 'exchanged' }] } });
  expect((await epsilonflow('plan', 'reviews.yaml')).code).toBe(0);
});

it.each(['show', 'register', 'acknowledge', 'set-budget', 'verify'])('help of %s has an example', async (command) => {
  expect((await output('ledger', command, '--help')).text).toContain(`Example: epsilonflow ledger ${command}`);
});
