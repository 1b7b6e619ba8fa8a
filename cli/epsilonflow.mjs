#!/usr/bin/env node
/** @file Entry of the `epsilonflow` command: loads the TypeScript sources through tsx, from any folder. */

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const packageRoot = fileURLToPath(new URL('..', import.meta.url));

if (!existsSync(`${packageRoot}node_modules/tsx`)) {
  process.stderr.write(
    `error SETUP_INCOMPLETE: the npm packages of ${packageRoot} are not installed\n` +
      `  hint: run "node stack/bootstrap.mjs setup" in that folder\n`,
  );
  process.exit(4);
}

// Its cache would lie in the system's temporary folder; without it a start takes a tenth of a second more.
process.env.TSX_DISABLE_CACHE ??= '1';
const { register } = await import('tsx/esm/api');
register({ tsconfig: `${packageRoot}tsconfig.json` });
const { main } = await import('./main.ts');
await main(process.argv.slice(2));
