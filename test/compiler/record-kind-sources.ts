/**
 * @file Records the code under each step kind, after a change: for kinds whose version was raised, and with `--reason` for
 * those whose stored results are as good as before.
 *
 * @example node --import tsx test/compiler/record-kind-sources.ts --reason "files were renamed"
 */

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

import { kinds } from '../../compiler/kinds.ts';
import { kindNames, recorded, recordFile, sourcesOf, type RecordedKind } from './kind-sources.ts';

const { reason } = parseArgs({ options: { reason: { type: 'string' } } }).values;
const before = recorded();
const after: Record<string, RecordedKind> = {};
for (const kind of kindNames) {
  const known = before[kind];
  const now = { version: kinds[kind].version, sources: sourcesOf(kind) };
  const isRaised = known === undefined || known.version !== now.version;
  if (!isRaised && known.sources !== now.sources && reason === undefined) {
    console.error(`${kind}: raise its version in compiler/kinds.ts, or say by --reason why its results are the same.`);
    process.exitCode = 1;
  }
  const isSame = known?.sources === now.sources;
  after[kind] = { ...now, reason: isRaised ? null : isSame ? known.reason : (reason ?? null) };
}
if (process.exitCode === undefined) writeFileSync(recordFile, `${JSON.stringify(after, null, 2)}\n`);
