import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import { ledgerName, openLedger, type Ledger } from '../../privacy/ledger/index.ts';
import { postgresKind } from '../../privacy/ledger/postgres.ts';
import { startPostgres, type PostgresServer } from '../postgres-server.ts';
import { requires } from '../requires.ts';
import { entry, envelope, proof, registration, stateDigest } from './ledger-fixture.ts';

/** Stands between ledger and server, and loses the connection where it is told. */
class Line {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** `before`: a COMMIT never arrives; `after`: its acknowledgement does not. Once, then `null` again. */
  lose: 'before' | 'after' | null = null;
  /** So many COMMITs pass before. */
  spared = 0;
  readonly url: string;

  private constructor(server: Server, target: URL) {
    this.#server = server;
    const url = new URL(target);
    url.port = String((server.address() as { port: number }).port);
    this.url = url.href;
    server.on('connection', (client) => this.#join(client, connect(Number(target.port), target.hostname)));
  }

  static async to(target: string): Promise<Line> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Line(server, new URL(target));
  }

  #join(client: Socket, upstream: Socket): void {
    const cut = (): void => {
      client.destroy();
      upstream.destroy();
    };
    let deaf = false;
    for (const socket of [client, upstream]) {
      this.#sockets.add(socket);
      socket.on('error', cut).on('close', cut);
    }
    client.on('data', (data) => {
      if (this.lose !== null && data.includes('commit\0') && (this.spared -= 1) < 0) {
        deaf = this.lose === 'after';
        this.lose = null;
        this.spared = 0;
        if (!deaf) return cut();
      }
      upstream.write(data);
    });
    upstream.on('data', (data) => (deaf ? cut() : client.write(data)));
  }

  cutAll(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  async close(): Promise<void> {
    this.cutAll();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

describe('what an error of PostgreSQL means', () => {
  const { mishap, unreachable } = postgresKind('postgres://user:hunter2@host:5432/ledger');
  const ofState = (code: string): Error => Object.assign(new pg.DatabaseError('said', 4, 'error'), { code });

  test.each([
    ['busy', ['40001', '40P01', '55P03']],
    ['outage', ['08006', '57P01', '57P02', '57P03', '53300', '57014', '25P03']],
    ['refusal', ['28P01', '3D000', '42501']],
    [null, ['23505', '42P01', '22003']],
  ])('%s: %j', (meaning, states) => {
    for (const state of states) expect(mishap(ofState(state))).toBe(meaning);
  });

  test('the driver and the system report a lost connection without a state', () => {
    const refused = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
    for (const error of [refused, new AggregateError([refused]), new Error('Connection terminated unexpectedly')]) {
      expect(mishap(error)).toBe('outage');
    }
    expect(mishap(new TypeError('a fault of this code'))).toBeNull();
    expect(unreachable(refused).message).toBe('The privacy ledger at postgres://host:5432/ledger cannot be reached.');
  });
});

describe.runIf(requires('postgres', 'outages of a ledger on PostgreSQL'))('a ledger on PostgreSQL', () => {
  let server: PostgresServer;
  let line: Line;
  let url: string;
  let ledger: Ledger;

  beforeAll(async () => {
    server = await startPostgres();
  });
  afterAll(() => server.remove());

  beforeEach(async () => {
    url = await server.createDatabase();
    line = await Line.to(url);
    ledger = await openLedger(line.url);
    await ledger.register([registration()]);
  });

  afterEach(async () => {
    await ledger.verify();
    await ledger.close();
    await line.close();
  });

  const plan = envelope('w', [entry('a'), entry('b')], 10);
  const unreachable = { code: 'SERVICE_UNREACHABLE', exitCode: 4, retryable: true };
  const charged = async (): Promise<number> =>
    Number((await server.query(url, 'select sum(charged) as charged from entries')).rows[0]!['charged'] ?? 0);

  test.each([
    ['before', 0],
    ['after', 2000],
  ] as const)('a reservation whose commit is lost %s it is done is charged once', async (moment, done) => {
    line.lose = moment;
    await expect(ledger.reserve(plan)).rejects.toMatchObject(unreachable);
    expect(await charged()).toBe(done);
    expect(await ledger.reserve(plan)).toHaveLength(2);
    expect(await charged()).toBe(2000);
  });

  test.each(['before', 'after'] as const)('an attempt goes on when a commit is lost %s it is done', async (moment) => {
    const [receipt] = await ledger.reserve(plan);
    line.lose = moment;
    const token = await ledger.begin(receipt!, 1, null);
    line.lose = moment;
    await ledger.recordStep(receipt!, token, 0, stateDigest);
    line.lose = moment;
    await ledger.commit(receipt!, token, proof);
    expect(await ledger.entryState(receipt!)).toBe('committed');
    expect(await charged()).toBe(2000);
    expect((await server.query(url, 'select step from entry_steps')).rows).toHaveLength(1);
  });

  test('a repeated step that is charged is charged once when its commit is lost', async () => {
    const short = { ...plan.entries[0]!.mechanism, steps: 1 } as const;
    const [receipt] = await ledger.reserve(envelope('v', [entry('c', { mechanism: short as never })], 10));
    const token = await ledger.begin(receipt!, 1, null);
    await ledger.recordStep(receipt!, token, 0, stateDigest);
    for (const moment of ['before', 'after'] as const) {
      // The first finds that the step is not charged for yet; the second charges it.
      line.lose = moment;
      line.spared = 1;
      await ledger.recordStep(receipt!, token, 0, moment.padEnd(64, '0'));
      expect(line.lose).toBeNull();
    }
    expect(await charged()).toBe(3);
  });

  test('a killed backend and a crashed server cost an attempt nothing but time', async () => {
    const [receipt] = await ledger.reserve(plan);
    const token = await ledger.begin(receipt!, 1, null);
    const kill =
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'epsilonflow' and pid <> pg_backend_pid()";
    await server.query(url, kill);
    await ledger.recordStep(receipt!, token, 0, stateDigest);
    await server.crash();
    const recording = ledger.recordStep(receipt!, token, 1, stateDigest);
    await server.start();
    await recording;
    expect((await server.query(url, 'select step from entry_steps')).rows).toHaveLength(2);
  });

  test('a ledger that can not be reached says so at once, without its password', async () => {
    const secretive = new URL(url);
    secretive.password = 'hunter2';
    secretive.port = '1';
    const error = await openLedger(secretive.href).catch((caught: unknown) => caught);
    expect(error).toMatchObject(unreachable);
    expect(String((error as Error).message)).not.toContain('hunter2');
    expect(ledgerName(secretive.href)).toBe(`postgres://127.0.0.1:1${secretive.pathname}`);
    const missing = new URL('/nowhere', url);
    await expect(openLedger(missing.href)).rejects.toMatchObject({
      ...unreachable,
      hint: expect.stringContaining('database') as string,
    });
  });

  test('a writer waits for another one, and then goes on', async () => {
    const held = server.query(url, 'begin; select * from ledger_head for update; select pg_sleep(1); commit');
    await new Promise((wake) => setTimeout(wake, 200));
    await ledger.reserve(plan);
    expect(await charged()).toBe(2000);
    await held;
  });
});
