import { expect, it } from 'vitest';

import { AlikeMappings, canonicalJson, jsonDigest, TextDigest } from '../../schemas/canonical-json.ts';

it('writes mappings that are alike as it writes each by itself', () => {
  const method = { rank: 8, kind: 'lora', targets: ['q', 'k'], none: undefined, text: 'ε "quoted"' };
  const alike = new AlikeMappings();
  const mappings: object[] = [
    { seed: 1, method, clip: 0.5 },
    { seed: 2, method, clip: undefined },
    { method, seed: 2, clip: null },
    { b: [method, method], a: {} },
    {},
  ];
  for (const mapping of [...mappings, ...mappings]) expect(alike.textOf(mapping)).toBe(canonicalJson(mapping));
});

it('has one digest for a text, in whatever pieces it comes', () => {
  const long = Array.from({ length: 3000 }, (_, place) => ({ place, text: 'ε' }));
  const digest = new TextDigest();
  for (const character of canonicalJson(long)) digest.add(character);
  expect(digest.hex()).toBe(jsonDigest(long));
});
