import { spawnSync } from 'node:child_process';
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, describe, expect, it, vi } from 'vitest';

import { offlineHost } from '../../cli/compile-host.ts';
import { compile } from '../../compiler/index.ts';
import type { Plan } from '../../schemas/plan.ts';
import { packageRoot } from '../../stack/paths.ts';
import { openStore } from '../../store/index.ts';
import { writeRun } from '../../tracking/runs.ts';
import { openWorkspace, preamble } from '../compiler/workspace.ts';

const workspace = openWorkspace();
afterAll(() => workspace.remove());

const entry = join(packageRoot, 'cli', 'epsilonflow.mjs');

interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the command in a process of its own, with state and ledger of its own. */
function epsilonflow(args: string[], command = [process.execPath, entry]): Outcome {
  const { status, stdout, stderr } = spawnSync(command[0]!, [...command.slice(1), ...args], {
    cwd: tmpdir(),
    encoding: 'utf8',
    env: {
      ...process.env,
      EPSILONFLOW_HOME: join(workspace.folder, 'state'),
      EPSILONFLOW_LEDGER_URL: `sqlite:${join(workspace.folder, 'ledger', 'ledger.db')}`,
      FORCE_COLOR: '',
    },
  });
  return { code: status, stdout, stderr };
}

/** What a run of the plan leaves that ended after its first instance. */
async function earlierRun(plan: Plan): Promise<void> {
  const { name, digest, nodes } = plan;
  vi.stubEnv('EPSILONFLOW_HOME', join(workspace.folder, 'state'));
  const store = openStore();
  await store.savePlan(plan);
  const record = { name, number: 1, workflowId: `${name}/1`, planDigest: digest, specFile: plan.spec.file };
  writeRun({ ...record, startedAt: new Date().toISOString() }, '');
  const { key, kind, label, sensitivity, id, axes } = nodes[0]!;
  const stage = await store.artifacts.stage('test', label);
  const manifest = { key, kind, label, sensitivity, nodeId: id, axes, metrics: {}, summary: {}, privacy: [] };
  await store.artifacts.publish(stage, manifest);
  vi.unstubAllEnvs();
}

const json = ({ stdout }: Outcome): Record<string, unknown> => JSON.parse(stdout) as Record<string, unknown>;

const spec = (budget: string): string => `${preamble.replace('{ size: 20000 }', `{ size: 20000${budget} }`)}
matrix: { epsilon: [4], seed: [1, 2] }
steps:
  generator:
    uses: finetune
    with: { model: base, data: reviews, epsilon: "\${{ matrix.epsilon }}", seed: "\${{ matrix.seed }}" }
`;

const sound = workspace.write('sound.yaml', spec(''));
const poor = workspace.write('poor.yaml', spec(', budget: { epsilon: 5 }'));
const faulty = workspace.write(
  'faulty.yaml',
  spec('').replace('uses: finetune', 'uses: finetun').replace('data: reviews', 'data: revews'),
);

describe('explain', () => {
  it('tells what a code means and what to do, whatever its case', () => {
    const { code, stdout } = epsilonflow(['explain', 'budget-refused']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^BUDGET_REFUSED: .*\n\n`epsilonflow plan SPEC` shows/);
    expect(json(epsilonflow(['explain', 'BUDGET_REFUSED', '--json']))).toMatchObject({ exit: 3, retryable: false });
  });

  it('lists all, and proposes one for a code that there is not', () => {
    expect(epsilonflow(['explain']).stdout).toContain('SERVICE_UNREACHABLE');
    const { code, stderr } = epsilonflow(['explain', 'BUDGET_REFUSE']);
    expect(code).toBe(2);
    expect(stderr).toContain('Did you mean BUDGET_REFUSED?');
  });
});

describe('help', () => {
  const commands = [...epsilonflow(['--help']).stdout.matchAll(/^ {2}([a-z]+) (?:\[|<)/gm)].map((match) => match[1]!);

  it('lists the commands', () => {
    expect(commands).toEqual(expect.arrayContaining(['validate', 'plan']));
  });

  it.each(commands.filter((name) => name !== 'help'))('of %s has an example', (name) => {
    const { code, stdout } = epsilonflow([name, '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/Examples?:\s+epsilonflow /);
  });

  it('is what the bare command prints', () => {
    const { code, stdout } = epsilonflow([]);
    expect(code).toBe(0);
    expect(stdout).toContain('Usage: epsilonflow');
  });
});

describe('the entry', () => {
  it('works from any folder and through a symlink', () => {
    const link = join(workspace.folder, 'ef');
    symlinkSync(entry, link);
    const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string };
    expect(epsilonflow(['--version'], [link])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
  });

  it('prints no colours into a pipe', () => {
    const { stdout, stderr } = epsilonflow(['validate', faulty]);
    expect(stdout + stderr).not.toContain('\u001b');
  });
});

it('ends quietly when its reader has seen enough', () => {
  // More than a pipe holds, so that the reader is gone before the end.
  const seeds = Array.from({ length: 200 }, (_, seed) => seed).join(', ');
  const large = workspace.write('large.yaml', spec('').replace('seed: [1, 2]', `seed: [${seeds}]`));
  const { stdout, stderr } = epsilonflow(
    ['-c', `"${process.execPath}" "${entry}" plan "${large}" --json | head -c 1`],
    ['sh'],
  );
  expect({ stdout, stderr }).toEqual({ stdout: '{', stderr: '' });
});

describe('wrong arguments', () => {
  it.each<[string, string[], string]>([
    ['an unknown command', ['plna'], 'Did you mean plan?'],
    ['an unknown option', ['plan', sound, '--ofline'], 'Did you mean --offline?'],
    ['a missing argument', ['plan'], 'See "epsilonflow --help".'],
  ])('%s ends with 2 and a hint', (_what, args, hint) => {
    const { code, stdout, stderr } = epsilonflow(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(`hint: ${hint}`);
    const structured = epsilonflow([...args, '--json']);
    expect(structured.code).toBe(2);
    expect(json(structured)).toMatchObject({ errors: [{ code: 'ARGUMENT_INVALID', hint }] });
  });
});

describe('validate', () => {
  it('is content with a sound spec', () => {
    expect(epsilonflow(['validate', sound])).toMatchObject({ code: 0, stderr: '' });
    expect(json(epsilonflow(['validate', sound, '--json']))).toEqual({ errors: [] });
  });

  it('prints every fault with its place, for people and as JSON', () => {
    const { code, stderr } = epsilonflow(['validate', faulty]);
    expect(code).toBe(2);
    expect(stderr).toContain(
      `faulty.yaml:20:11 error SPEC_SCHEMA: Unknown step kind "finetun"\n  hint: Did you mean "finetune"?`,
    );
    const structured = epsilonflow(['validate', faulty, '--json']);
    expect(structured.code).toBe(2);
    expect(json(structured)['errors']).toContainEqual({
      code: 'SPEC_SCHEMA',
      file: faulty,
      line: 20,
      column: 11,
      message: 'Unknown step kind "finetun"',
      hint: 'Did you mean "finetune"?',
    });
  });

  it('checks every profile too, unless one is named', () => {
    const profiles = `${spec('')}profiles:\n  quick: { matrix.seed: [1] }\n  wrong: { steps.generator.lr: fast, matrix.seed: [] }\n`;
    const file = workspace.write('profiles.yaml', profiles);
    const { code, stderr } = epsilonflow(['validate', file]);
    expect(code).toBe(2);
    expect(stderr).toContain('Unknown key "lr"');
    expect(stderr).toContain('is empty');
    expect(epsilonflow(['validate', file, '--profile', 'quick'])).toMatchObject({ code: 0, stderr: '' });
  });

  it('says of a file that is not there what to do', () => {
    const { code, stderr } = epsilonflow(['validate', 'nowhere.yaml']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/error SPEC_FILE_MISSING: Spec .*nowhere\.yaml does not exist\n {2}hint: /);
  });

  it('refuses a spec that is no UTF-8', () => {
    const broken = workspace.write('latin.yaml', '');
    spawnSync('sh', ['-c', `printf 'name: caf\\351\\n' > "${broken}"`]);
    expect(epsilonflow(['validate', broken])).toMatchObject({ code: 2, stdout: '' });
  });
});

describe('plan', () => {
  it('prints the plan in the fixed form, with what the ledger holds', () => {
    const outcome = epsilonflow(['plan', sound, '--json']);
    expect(outcome).toMatchObject({ code: 0, stderr: '' });
    expect(json(outcome)).toMatchObject({
      planVersion: 1,
      digest: expect.stringMatching(/^[0-9a-f]{64}$/) as unknown,
      nodes: [
        {
          id: 'generator[epsilon=4,seed=1]',
          kind: 'finetune',
          axes: { epsilon: 4, seed: 1 },
          label: 'dp',
          cached: false,
          position: { file: sound, line: 19, column: 3 },
          privacy: { dataset: 'reviews', targetEpsilon: 4, mechanism: { kind: 'poisson-gaussian' } },
        },
        { id: 'generator[epsilon=4,seed=2]' },
      ],
      privacy: { reviews: { before: 0, budget: null, unbounded: 0, unboundedBefore: 0, rule: 'recorded' } },
      errors: [],
    });
    const { experiment, after } = (json(outcome)['privacy'] as Record<string, Record<string, number>>)['reviews']!;
    expect(experiment).toBeGreaterThan(4);
    expect(after).toBe(experiment);
  });

  it('says what changed since an earlier run', async () => {
    const file = workspace.write('changed.yaml', spec('').replace('name: trial', 'name: changed'));
    const { plan } = await compile({ file }, offlineHost());
    await earlierRun(plan);
    writeFileSync(file, readFileSync(file, 'utf8').replace('data: reviews,', 'data: reviews, clip: 0.3,'));
    const { stdout } = epsilonflow(['plan', file]);
    expect(stdout).toMatch(/generator\[epsilon=4,seed=1\].* clip: [\d.]+ -> 0\.3 at line 21\n/);
    expect(json(epsilonflow(['plan', file, '--json']))['misses']).toMatchObject({
      'generator[epsilon=4,seed=2]': {
        nearest: 'generator[epsilon=4,seed=1]',
        changes: [
          { what: 'parameter', name: 'clip', to: 0.3, line: 21 },
          { what: 'parameter', name: 'seed', from: 1, to: 2, line: 17 },
        ],
      },
    });
  });

  it('asks neither ledger nor store offline, and has the same digest', () => {
    const offline = json(epsilonflow(['plan', sound, '--offline', '--json']));
    expect(offline).toMatchObject({
      nodes: [{ cached: null }, { cached: null }],
      privacy: { reviews: { before: null, after: null, rule: null } },
    });
    expect(offline['digest']).toBe(json(epsilonflow(['plan', sound, '--json']))['digest']);
  });

  it.each(['', '--offline'])('over a budget ends with 3, by how much and where %s', (option) => {
    const { code, stdout, stderr } = epsilonflow(['plan', poor, ...(option === '' ? [] : [option])]);
    expect(code).toBe(3);
    expect(stdout).toContain('generator[epsilon=4,seed=2]');
    expect(stderr).toMatch(
      /poor\.yaml:19:3 error BUDGET_REFUSED: Dataset "reviews" has a budget of 5: epsilon [\d.]+ would exceed it by [\d.]+; generator\[epsilon=4,seed=2\] is the first that does not fit\n {2}hint: /,
    );
  });
});
