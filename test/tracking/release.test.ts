import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { readRecords } from '../../datasets/index.ts';
import { openLedger, type Ledger } from '../../privacy/ledger/index.ts';
import { releaseInstance, type Release } from '../../tracking/release.ts';
import { makeUpRun, ownState, payFor, syntheticRows, type MadeUpRun } from './made-up-run.ts';

const dpSet = 'synthetic[dataset=speeches,epsilon=8,seed=1]';
let removeState: () => void;
let run: MadeUpRun;
let ledger: Ledger;
let to: string;

beforeEach(async () => {
  removeState = ownState();
  run = await makeUpRun({ seeds: [1], epsilons: [8, 'inf'] });
  ledger = await payFor(run);
  to = join(process.env['EPSILONFLOW_HOME']!, 'released', 'speeches');
});
afterEach(async () => {
  await ledger.close();
  removeState();
});

const release = (instance: string, more: { withAdapter?: boolean } = {}): Promise<Release> =>
  releaseInstance({
    run: { directory: run.directory, record: run.record },
    plan: run.plan,
    store: run.store,
    ledger,
    instance,
    to,
    ...more,
  });

describe('a released folder', () => {
  it('holds the whole set in both forms, and digests that sha256sum confirms', async () => {
    const released = await release(dpSet);
    expect(released.files).toEqual([
      'README.md',
      'SHA256SUMS',
      'dataset.yaml',
      'evidence/SHA256SUMS',
      'evidence/evidence.json',
      'evidence/plan.json',
      'evidence/spec.yaml',
      'privacy-statement.json',
      'privacy-statement.md',
      'synthetic.jsonl',
      'synthetic.parquet',
    ]);
    const lines = readFileSync(join(to, 'synthetic.jsonl'), 'utf8').trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual(syntheticRows(40));
    const rows = await parquetReadObjects({ file: await asyncBufferFromFile(join(to, 'synthetic.parquet')) });
    expect(rows).toEqual(syntheticRows(40));
    expect(execFileSync('sha256sum', ['-c', 'SHA256SUMS'], { cwd: to, encoding: 'utf8' })).toMatch(
      /synthetic.parquet: OK/,
    );
    expect(readdirSync(join(to, '..'))).toEqual(['speeches']);
  });

  it('states epsilon, delta, unit, adjacency, ledger entry and the spending of the whole account', async () => {
    await release(dpSet);
    const statement = JSON.parse(readFileSync(join(to, 'privacy-statement.json'), 'utf8')) as {
      datasets: Record<string, unknown>[];
      accounts: Record<string, unknown>[];
    };
    expect(statement.datasets).toHaveLength(1);
    expect(statement.datasets[0]).toMatchObject({
      dataset: 'speeches',
      epsilon: 7.996,
      delta: 1.8e-6,
      unit: 'record',
      adjacency: 'adding or removing one record',
      size: 50490,
    });
    const generator = run.plan.nodes.find(({ step }) => step === 'generator')!;
    const { paidBy = [] } = (await run.store.lookup(generator.key))!.manifest;
    expect(statement.datasets[0]!['mechanisms']).toMatchObject([{ instance: generator.id, ledgerEntry: paidBy[0] }]);
    // The run trains without DP as well, which the account does not hide.
    expect(statement.accounts).toMatchObject([{ dataset: 'speeches', epsilon: null, unbounded: 2 }]);
    const text = readFileSync(join(to, 'privacy-statement.md'), 'utf8');
    expect(text).toContain('ε = 7.996');
    expect(text).toContain('adding or removing one record');
    expect(text).toContain('2 of its entries trained without DP');
  });

  it('is a dataset that a spec can use as public', async () => {
    await release(dpSet);
    const snippet = parse(readFileSync(join(to, 'dataset.yaml'), 'utf8')) as {
      datasets: Record<string, { files: { train: string }; text: string; label: { column: string; values: string[] } }>;
    };
    const [name, dataset] = Object.entries(snippet.datasets)[0]!;
    const records = await readRecords(
      {
        name,
        files: { train: { path: join(to, dataset.files.train), format: 'jsonl', compression: 'none' } },
        text: dataset.text,
        label: dataset.label,
        sensitivity: 'public',
      },
      'train',
    );
    expect(records).toHaveLength(40);
    expect(records.filter(({ label }) => label === 1)).toHaveLength(20);
    const card = readFileSync(join(to, 'README.md'), 'utf8');
    expect(parse(card.split('---')[1]!)).toMatchObject({ configs: [{ data_files: [{ path: 'synthetic.parquet' }] }] });
  });

  it('has the adapter beside it when asked for', async () => {
    const released = await release(dpSet, { withAdapter: true });
    expect(released.files).toContain('adapter/adapter_model.safetensors');
    expect(readFileSync(join(to, 'SHA256SUMS'), 'utf8')).toContain('adapter/adapter_config.json');
  });

  it('can be an adapter by itself', async () => {
    const released = await release('generator[epsilon=8]');
    expect(released.files).toContain('adapter_model.safetensors');
    expect(released.files).toContain('README.md');
  });

  it('stays as it is when it is released again', async () => {
    await release(dpSet);
    expect((await release(dpSet)).unchanged).toBe(true);
  });
});

describe('a release is refused', () => {
  it('for what is not labelled dp or public, though it is of a benchmark', async () => {
    await expect(release('synthetic[epsilon=inf]')).rejects.toMatchObject({
      code: 'RELEASE_REFUSED',
      exitCode: 3,
      hint: expect.stringContaining(dpSet) as string,
    });
    await expect(release('on-synthetic[epsilon=8]')).rejects.toMatchObject({ code: 'RELEASE_REFUSED' });
    expect(existsSync(to)).toBe(false);
  });

  it('when the ledger does not hold the entry that pays for it', async () => {
    await ledger.close();
    ledger = await openLedger(`sqlite:${join(process.env['EPSILONFLOW_HOME']!, 'another.db')}`);
    await expect(release(dpSet)).rejects.toMatchObject({ code: 'RELEASE_REFUSED' });
    expect(existsSync(to)).toBe(false);
  });

  it('when the stored result was altered', async () => {
    const artifact = await run.store.lookup(run.plan.nodes.find(({ id }) => id === dpSet)!.key);
    const file = join(artifact!.directory, 'synthetic.jsonl');
    writeFileSync(file, readFileSync(file, 'utf8').replace('congress', 'CONGRESS'));
    await expect(release(dpSet)).rejects.toMatchObject({ code: 'RELEASE_REFUSED' });
  });

  it('over a folder with other content, which is left alone', async () => {
    mkdirSync(to, { recursive: true });
    writeFileSync(join(to, 'notes.txt'), 'mine');
    await expect(release(dpSet)).rejects.toMatchObject({ code: 'ARGUMENT_INVALID', exitCode: 2 });
    expect(readdirSync(to)).toEqual(['notes.txt']);
    expect(readdirSync(join(to, '..'))).toEqual(['speeches']);
  });

  it('over a released folder that was changed since', async () => {
    await release(dpSet);
    appendFileSync(join(to, 'synthetic.jsonl'), '{"text":"more","label":"after-1910"}\n');
    await expect(release(dpSet)).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
  });

  it('with the nearest ids when the instance is not known', async () => {
    await expect(release('syntetic[dataset=speeches,epsilon=8,seed=1]')).rejects.toMatchObject({
      code: 'INSTANCE_UNKNOWN',
      hint: expect.stringContaining(`Did you mean ${dpSet}`) as string,
    });
    await expect(release('synthetic')).rejects.toMatchObject({ code: 'INSTANCE_UNKNOWN' });
  });
});
