/**
 * @file Which Temporal server the environment names, and how to connect to it: the `TEMPORAL_*` variables and profile
 * files of Temporal's own tools. Credentials are read at each connection and kept nowhere.
 */

import { existsSync } from 'node:fs';
import { Connection, type ConnectionOptions } from '@temporalio/client';
import { type ClientConnectConfig, loadClientConnectConfig } from '@temporalio/envconfig';
import { EpsilonflowError } from '../schemas/errors.ts';

type ConnectSettings = ClientConnectConfig['connectionOptions'];

interface NamedServer {
  address: string;
  namespace: string;
  settings: ConnectSettings;
}

/**
 * The server that `TEMPORAL_ADDRESS` or a profile names; null when there is neither. The profile file in the home folder
 * counts only when `TEMPORAL_PROFILE` asks for it: it may be there for other projects.
 *
 * @throws EpsilonflowError ARGUMENT_INVALID when the profile can't be read or names no address
 */
export function namedServer(): NamedServer | null {
  const { TEMPORAL_ADDRESS, TEMPORAL_CONFIG_FILE, TEMPORAL_PROFILE } = process.env;
  const usesFile = [TEMPORAL_CONFIG_FILE, TEMPORAL_PROFILE].some(Boolean);
  if (!TEMPORAL_ADDRESS && !usesFile) return null;
  // The loader takes a missing file for an empty one: its encryption would be left out without a word.
  if (TEMPORAL_CONFIG_FILE && !existsSync(TEMPORAL_CONFIG_FILE)) throw wrong(`${TEMPORAL_CONFIG_FILE} does not exist`);
  const { connectionOptions: settings, namespace } = loadSettings(usesFile);
  if (!settings.address) throw wrong('they name no address');
  return { address: settings.address, namespace: namespace ?? 'default', settings };
}

function loadSettings(usesFile: boolean): ClientConnectConfig {
  try {
    return loadClientConnectConfig({ disableFile: !usesFile, configFileStrict: true });
  } catch (error) {
    throw wrong((error as Error).message, error);
  }
}

const wrong = (why: string, cause?: unknown): EpsilonflowError =>
  new EpsilonflowError('ARGUMENT_INVALID', `The Temporal settings of the environment can't be used: ${why}.`, {
    hint: 'Correct the TEMPORAL_* variables and the profile file that they name, or unset them to use the local server.',
    cause,
  });

/** How to connect to a server: credentials go to the one that the environment names, and to no other. */
export function connectSettings(address: string): ConnectSettings {
  const named = namedServer();
  return named?.address === address ? named.settings : { address };
}

/** A connection of a client. */
export const openConnection = (
  address: string,
  options: Pick<ConnectionOptions, 'connectTimeout'> = {},
): Promise<Connection> => Connection.connect({ ...connectSettings(address), ...options });
