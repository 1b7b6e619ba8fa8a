/**
 * @file The ledger on both databases: how many charges it takes a second, and whether a long history makes it slower.
 *
 * A charge is a reservation, its first attempt and its commit: three transactions that each reach the disk. Its peer is
 * what the same database can do at all: three transactions of one inserted row.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { LedgerDatabase } from '../privacy/ledger/database.ts';
import { openDatabase } from '../privacy/ledger/database.ts';
import { openLedger, sealMechanism, type Envelope, type EnvelopeEntry, type Ledger } from '../privacy/ledger/index.ts';
import { jsonDigest } from '../schemas/canonical-json.ts';
import { startPostgres, type PostgresServer } from '../test/postgres-server.ts';
import { median, type Bench, type BenchCase, type MeasureOptions } from './bench-case.ts';

const mechanism = {
  kind: 'poisson-gaussian',
  samplingProbability: 0.01,
  noiseMultiplier: 1,
  steps: 50 as number,
  clipNorm: 1,
  expectedBatchSize: 100,
  arithmetic: 'exact',
} as const;

const { kind: _kind, ...used } = mechanism;
const proof = { sampler: 'poisson', ...used } as const;

const data = { dataset: 'reviews', digest: 'd'.repeat(64), delta: 1e-6 };

const entryNamed = (nodeId: string, steps = mechanism.steps): EnvelopeEntry => ({
  dataset: data.dataset,
  nodeId,
  nodeKey: jsonDigest(nodeId),
  keyEpoch: 0,
  mechanism: { ...mechanism, steps },
  mechanismDigest: sealMechanism(data, { ...mechanism, steps }),
});

/** The budget never binds, but every reservation is held against it. */
const envelopeOf = (workflowId: string, entries: EnvelopeEntry[]): Envelope => ({
  workflowId,
  experiment: 'bench',
  planDigest: '0'.repeat(64),
  accounts: [{ ...data, budget: { epsilon: 1e9 }, benchmark: true }],
  entries,
});

interface Place {
  name: string;
  fresh(): Promise<string>;
}

let server: Promise<PostgresServer> | null = null;
const folders: string[] = [];

const places: readonly Place[] = [
  {
    name: 'sqlite',
    fresh: () => {
      const folder = mkdtempSync(join(tmpdir(), 'bench-ledger-'));
      folders.push(folder);
      return Promise.resolve(`sqlite:${join(folder, 'ledger.db')}`);
    },
  },
  {
    name: 'postgres',
    fresh: async () => {
      server ??= startPostgres({ durable: true });
      return (await server).createDatabase();
    },
  },
];

let charges = 0;

async function charge(ledger: Ledger): Promise<void> {
  charges += 1;
  const [receipt] = await ledger.reserve(envelopeOf(`charge-${charges}`, [entryNamed(`charge-${charges}`)]));
  const token = await ledger.begin(receipt!, 1, null);
  await ledger.commit(receipt!, token, proof);
}

let written = 0;

/** A transaction of one row. */
async function writeRow(database: LedgerDatabase): Promise<void> {
  written += 1;
  await database.transaction().execute((transaction) =>
    transaction
      .insertInto('entry_steps')
      .values({ entry_id: `bare-${written}`, ordinal: 1, step: 0, digest: '' })
      .execute(),
  );
}

async function writeRows(database: LedgerDatabase): Promise<void> {
  for (let row = 0; row < 3; row += 1) await writeRow(database);
}

async function times(rounds: number, work: () => Promise<void>): Promise<number[]> {
  const taken: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const started = performance.now();
    await work();
    taken.push(performance.now() - started);
  }
  return taken;
}

const perSecond = (milliseconds: readonly number[]): number =>
  (1000 * milliseconds.length) / milliseconds.reduce((sum, value) => sum + value, 0);

type Figures = Promise<{ ours: number[]; peer: number[] }>;

/** Times `ours` of a new ledger and `bare` of its database in turns, so that both meet the same disk. */
async function inTurns(
  { fresh }: Place,
  { quick }: MeasureOptions,
  ours: (ledger: Ledger) => Promise<() => Promise<void>>,
  bare: (database: LedgerDatabase) => Promise<void>,
): Figures {
  const url = await fresh();
  const opened = await openLedger(url);
  const { database, close } = await openDatabase(url);
  const work = await ours(opened);
  const taken: Awaited<Figures> = { ours: [], peer: [] };
  for (let turn = 0; turn < (quick ? 2 : 10); turn += 1) {
    taken.peer.push(...(await times(50, () => bare(database))));
    taken.ours.push(...(await times(50, work)));
  }
  await close();
  await opened.close();
  return taken;
}

async function throughput(place: Place, options: MeasureOptions): Promise<{ ours: number; peer: number }> {
  const { ours, peer } = await inTurns(place, options, (opened) => Promise.resolve(() => charge(opened)), writeRows);
  return { ours: perSecond(ours), peer: perSecond(peer) };
}

/** What the ledger adds to a step of training. */
async function stepCost(place: Place, options: MeasureOptions): Promise<{ ours: number; peer: number }> {
  const training = entryNamed('trained', 1e5);
  const start = async (opened: Ledger): Promise<() => Promise<void>> => {
    const [receipt] = await opened.reserve(envelopeOf('trained', [training]));
    const token = await opened.begin(receipt!, 1, null);
    let step = 0;
    return async () => {
      await opened.recordStep(receipt!, token, step, jsonDigest(`state ${(step += 1)}`));
    };
  };
  const { ours, peer } = await inTurns(place, options, start, writeRow);
  return { ours: median(ours), peer: median(peer) };
}

/** Entries of one envelope while the history is filled. */
const lot = 1000;

/** Reserves `from` to `to` entries of an account whose other entries they join. */
async function fill(ledger: Ledger, from: number, to: number): Promise<void> {
  for (let first = from; first < to; first += lot) {
    const names = Array.from({ length: lot }, (_, index) => `filled-${first + index}`);
    await ledger.reserve(
      envelopeOf(
        `filled-${first}`,
        names.map((name) => entryNamed(name)),
      ),
    );
  }
}

async function flatness({ fresh }: Place, { quick, say }: MeasureOptions): Promise<{ ours: number; peer: number }> {
  const [small, large] = [await openLedger(await fresh()), await openLedger(await fresh())];
  await fill(small, 0, lot);
  let figures = { ours: NaN, peer: NaN };
  let filled = 0;
  for (const size of quick ? [1e4] : [1e4, 1e5, 1e6]) {
    await fill(large, filled, size);
    filled = size;
    const [ours, peer]: [number[], number[]] = [[], []];
    // In turns, so that both meet the same disk.
    for (let turn = 0; turn < (quick ? 5 : 20); turn += 1) {
      peer.push(...(await times(10, () => charge(small))));
      ours.push(...(await times(10, () => charge(large))));
    }
    figures = { ours: median(ours), peer: median(peer) };
    say(`  ${size} entries: ${figures.ours.toFixed(2)} ms a charge; 1000 entries: ${figures.peer.toFixed(2)} ms`);
  }
  await small.close();
  await large.close();
  return figures;
}

export const ledger: Bench = {
  name: 'ledger',
  cases: places.flatMap((place): BenchCase[] => [
    {
      name: `${place.name}-charges`,
      unit: '1/s',
      better: 'more',
      peerName: 'three bare transactions of one row',
      goal: null,
      measure: (options) => throughput(place, options),
    },
    {
      name: `${place.name}-step`,
      unit: 'ms',
      better: 'less',
      peerName: 'a bare transaction of one row',
      goal: null,
      measure: (options) => stepCost(place, options),
    },
    {
      name: `${place.name}-million-entries`,
      unit: 'ms',
      better: 'less',
      peerName: 'the same ledger at 1,000 entries',
      goal: 0.8,
      measure: (options) => flatness(place, options),
    },
  ]),
  close: async () => {
    await (await server)?.remove();
    for (const folder of folders) rmSync(folder, { recursive: true });
  },
};
