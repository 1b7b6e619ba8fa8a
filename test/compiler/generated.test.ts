import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { Ajv } from 'ajv';
import { afterAll, describe, expect, it } from 'vitest';

import { stepKinds } from '../../compiler/spec-schema.ts';
import { kinds } from '../../compiler/kinds.ts';
import specSchema from '../../schemas/experiment.schema.json' with { type: 'json' };
import { generated } from '../../schemas/generate.ts';
import planSchema from '../../schemas/plan.schema.json' with { type: 'json' };
import { packageRoot } from '../../stack/paths.ts';
import { openWorkspace, preamble } from './workspace.ts';

const workspace = openWorkspace();
afterAll(() => workspace.remove());

/** A schema within the spec's schema, with the description nearest above it; `isKey`: a spec's author types its name. */
interface Place {
  path: string;
  description: string;
  schema: Record<string, unknown>;
  isKey: boolean;
}

function* placesOf(schema: unknown, path = '', inherited = ''): Generator<Place> {
  if (typeof schema !== 'object' || schema === null) return;
  const own = schema as Record<string, unknown>;
  const description = typeof own['description'] === 'string' ? own['description'] : inherited;
  yield { path, description, schema: own, isKey: /\/properties\/[^/]+$/.test(path) };
  const named = new Set(['properties', 'definitions']);
  for (const [name, value] of Object.entries(own)) {
    if (named.has(name)) {
      for (const [key, child] of Object.entries(value as object)) yield* placesOf(child, `${path}/${name}/${key}`);
    } else if (name !== 'default') yield* placesOf(value, `${path}/${name}`, description);
  }
}

type Schema = Record<string, unknown>;

/** Whether a value may be a number. */
function isNumber(schema: Schema): boolean {
  if (['number', 'integer'].some((type) => [schema['type']].flat().includes(type))) return true;
  if (schema['$ref'] === '#/definitions/epsilon') return true;
  return [schema['anyOf'], schema['oneOf']].some((branches) => ((branches ?? []) as Schema[]).some(isNumber));
}

/** Units, and quantities that have none. */
const measured =
  /\b(tokens?|records?|steps?|seconds?|sequences|positions?|passes|rows|resamples|similarity|words|buckets|filters|blocks|heads|documents|width|rank|share|fraction|probability|probable|rate|epsilon|privacy loss|norm|scale|logits|divided|added|fixes)\b/i;

/** Whether the mapping that holds a key can't be without it. */
function isNeeded(path: string): boolean {
  const [, parent, key] = /^(.*)\/properties\/([^/]+)$/.exec(path)!;
  const holder = parent!
    .split('/')
    .slice(1)
    .reduce<unknown>((schema, name) => (schema as Schema)[name], specSchema) as Schema;
  return ((holder['required'] ?? []) as string[]).includes(key!);
}

describe('what an editor shows of a spec', () => {
  const places = [...placesOf(specSchema)];
  const keys = places.filter(({ isKey }) => isKey);

  it('describes every key', () => {
    expect(keys.length).toBeGreaterThan(100);
    expect(keys.filter(({ description }) => description === '').map(({ path }) => path)).toEqual([]);
  });

  const numbers = keys.filter(({ schema }) => isNumber(schema));

  it('says of every number what it counts or measures', () => {
    expect(numbers.length).toBeGreaterThan(50);
    expect(numbers.filter(({ description }) => !measured.test(description)).map(({ path }) => path)).toEqual([]);
  });

  it('says of every number what holds without it, unless it is needed', () => {
    const silent = numbers.filter(
      ({ path, description, schema }) =>
        schema['default'] === undefined && !isNeeded(path) && !/Default:|Without it|Needed/.test(description),
    );
    expect(silent.map(({ path }) => path)).toEqual([]);
  });

  it('says of every word that a key takes what it means', () => {
    const silent = places.flatMap(({ path, description, schema }) =>
      ((schema['enum'] ?? []) as string[])
        .filter((word) => !description.includes(`\`${word}\``))
        .map((word) => `${path}: ${word}`),
    );
    expect(silent).toEqual([]);
  });
});

describe('what is made from the schema of a spec', () => {
  it('is what the schema makes', async () => {
    for (const [path, content] of Object.entries(await generated())) {
      expect(readFileSync(join(packageRoot, path), 'utf8'), `${path}: run schemas/generate.ts`).toBe(content);
    }
  });

  it('has a section for each step kind that the compiler knows', () => {
    expect([...stepKinds].sort()).toEqual(Object.keys(kinds).sort());
  });
});

describe('the schema of a plan', () => {
  const validate = new Ajv({ allErrors: true, allowUnionTypes: true }).compile(planSchema);

  it('accepts the plans that the compiler makes', async () => {
    const plan = await workspace.plan(`${preamble}
matrix: { epsilon: [8, .inf], seed: [1, 2] }
steps:
  generator:
    uses: finetune
    with: { model: base, data: reviews, epsilon: "\${{ matrix.epsilon }}", seed: "\${{ matrix.seed }}" }
  on-real:
    uses: train-classifier
    with: { train: reviews, test: other, epsilon: "\${{ matrix.epsilon }}", seed: "\${{ matrix.seed }}" }
  comparison: { uses: compare, with: { arms: { real: "\${{ steps.on-real }}" }, over: [seed] } }
`);
    validate(JSON.parse(JSON.stringify(plan)));
    expect(validate.errors).toBeNull();
  });

  it('refuses a plan with a number that is none', () => {
    expect(validate({ planVersion: 1 })).toBe(false);
  });
});
