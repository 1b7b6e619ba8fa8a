import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type Server } from 'node:tls';
import { NativeConnection } from '@temporalio/worker';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { ensureTemporal, stopServices } from '../../stack/services.ts';
import { connectSettings, namedServer, openConnection } from '../../stack/temporal-connection.ts';
import { requires } from '../requires.ts';

const before = { ...process.env };
let home: string;
let local: string;
let proxy: Server | undefined;
let encrypted: string;

const file = (name: string): string => join(home, name);

/** Files `NAME.pem` and `NAME.key`, signed by themselves or by `ca`. */
function certificate(name: string, ca?: string): void {
  const signer = ca === undefined ? [] : ['-CA', file(`${ca}.pem`), '-CAkey', file(`${ca}.key`)];
  const isAuthority = ca === undefined ? 'TRUE' : 'FALSE';
  const extensions = [`basicConstraints=critical,CA:${isAuthority}`, 'subjectAltName=DNS:temporal.test'];
  const parameters = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const files = [
    '-subj',
    `/CN=${name}`,
    ...extensions.flatMap((each) => ['-addext', each]),
    '-out',
    file(`${name}.pem`),
  ];
  execFileSync('openssl', [...parameters, ...files, '-keyout', file(`${name}.key`), ...signer], { stdio: 'ignore' });
}

/** Takes encrypted connections of clients that have a certificate, and passes what they say to the local server. */
const startProxy = (): Promise<Server> =>
  new Promise((resolve) => {
    const [host, port] = local.split(':') as [string, string];
    const identity = { key: readFileSync(file('server.key')), cert: readFileSync(file('server.pem')) };
    const demands = { ca: readFileSync(file('ca.pem')), requestCert: true, rejectUnauthorized: true };
    const server = createServer({ ...identity, ...demands, ALPNProtocols: ['h2'] }, (socket) => {
      const onward = connect(Number(port), host);
      for (const end of [socket, onward]) end.on('error', () => [socket, onward].forEach((each) => each.destroy()));
      socket.pipe(onward).pipe(socket);
    });
    server.listen(0, '127.0.0.1', () => resolve(server));
  });

const profileFile = (extra = ''): string => `[profile.lab]
address = "${encrypted}"
namespace = "default"
[profile.lab.tls]
server_name = "temporal.test"
server_ca_cert_path = "${file('ca.pem')}"
client_cert_path = "${file('client.pem')}"
client_key_path = "${file('client.key')}"
${extra}`;

function clear(): void {
  for (const name of Object.keys(process.env)) if (name.startsWith('TEMPORAL_')) delete process.env[name];
}

function useProfile(text: string): void {
  writeFileSync(file('temporal.toml'), text);
  process.env['TEMPORAL_CONFIG_FILE'] = file('temporal.toml');
  process.env['TEMPORAL_PROFILE'] = 'lab';
}

const failure = (action: () => unknown): EpsilonflowError => {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(EpsilonflowError);
    return error as EpsilonflowError;
  }
  throw new Error('It did not fail.');
};

const hasCertificates = requires('openssl', 'encrypted connections to Temporal');

beforeAll(async () => {
  clear();
  home = mkdtempSync(join(tmpdir(), 'temporal-connection-'));
  process.env['EPSILONFLOW_HOME'] = home;
  local = (await ensureTemporal()).address;
  if (!hasCertificates) return;
  certificate('ca');
  certificate('server', 'ca');
  certificate('client', 'ca');
  proxy = await startProxy();
  encrypted = `127.0.0.1:${(proxy.address() as AddressInfo).port}`;
}, 120_000);

afterEach(clear);

afterAll(async () => {
  proxy?.close();
  await stopServices();
  rmSync(home, { recursive: true, force: true });
  Object.assign(process.env, before);
  if (before['EPSILONFLOW_HOME'] === undefined) delete process.env['EPSILONFLOW_HOME'];
});

describe.runIf(hasCertificates)('a profile file', () => {
  it('leads commands and workers to a server that wants certificates of its clients', async () => {
    useProfile(profileFile());
    expect(await ensureTemporal()).toMatchObject({ address: encrypted, namespace: 'default', own: false });
    const client = await openConnection(encrypted);
    expect(await client.workflowService.getSystemInfo({})).toHaveProperty('serverVersion');
    await client.close();
    const worker = await NativeConnection.connect(connectSettings(encrypted));
    await worker.close();
  });

  it('without the certificate reaches nothing', async () => {
    useProfile(profileFile().replace(/client_.*\n/g, ''));
    await expect(ensureTemporal()).rejects.toMatchObject({ code: 'SERVICE_UNREACHABLE' });
  });

  it('gives way to variables', () => {
    useProfile(profileFile());
    process.env['TEMPORAL_NAMESPACE'] = 'other';
    expect(namedServer()).toMatchObject({ address: encrypted, namespace: 'other' });
  });

  it('that is missing, misspelt, without the profile or without an address is an error', () => {
    useProfile(profileFile().replace('profile.lab.tls', 'profile.lab.tsl'));
    expect(failure(namedServer)).toMatchObject({ code: 'ARGUMENT_INVALID', message: expect.stringContaining('tsl') });
    useProfile(profileFile());
    process.env['TEMPORAL_PROFILE'] = 'elsewhere';
    expect(failure(namedServer).message).toContain("'elsewhere'");
    useProfile('[profile.lab]\nnamespace = "default"\n');
    expect(failure(namedServer).message).toContain('no address');
    process.env['TEMPORAL_ADDRESS'] = local;
    process.env['TEMPORAL_CONFIG_FILE'] = file('missing.toml');
    expect(failure(namedServer).message).toContain('missing.toml does not exist');
  });
});

describe('variables', () => {
  it('send an API key encrypted, and only to the server that they name', () => {
    process.env['TEMPORAL_ADDRESS'] = 'temporal.test:7233';
    process.env['TEMPORAL_API_KEY'] = 'secret';
    expect(connectSettings('temporal.test:7233')).toMatchObject({ apiKey: 'secret', tls: true });
    expect(connectSettings(local)).toEqual({ address: local });
  });

  it('that name no server leave the local one, whatever else they say', async () => {
    process.env['TEMPORAL_API_KEY'] = 'secret';
    process.env['TEMPORAL_NAMESPACE'] = 'other';
    expect(namedServer()).toBeNull();
    expect(await ensureTemporal()).toMatchObject({ address: local, namespace: 'default', own: true });
  });
});
