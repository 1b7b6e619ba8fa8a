import { expect, it } from 'vitest';

import { kinds } from '../../compiler/kinds.ts';
import { kindNames, recorded, sourcesOf } from './kind-sources.ts';

it.each(kindNames)('the code under %s is that of its version', (kind) => {
  const { version, sources } = recorded()[kind]!;
  expect(version, 'its version was changed and not recorded: test/compiler/record-kind-sources.ts').toBe(
    kinds[kind].version,
  );
  expect(
    sourcesOf(kind),
    'raise the version in compiler/kinds.ts, then run test/compiler/record-kind-sources.ts; with --reason where results are the same',
  ).toBe(sources);
});

it('tells the code of kinds apart', () => {
  expect(new Set(kindNames.map(sourcesOf)).size).toBe(kindNames.length);
});
