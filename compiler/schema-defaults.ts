/** @file The schema's definitions, and the defaults that they give. */

import experimentSchema from '../schemas/experiment.schema.json' with { type: 'json' };
import type { JsonValue } from '../schemas/plan.ts';

export interface Schema {
  $ref?: string;
  type?: string | string[];
  const?: JsonValue;
  enum?: JsonValue[];
  default?: JsonValue;
  title?: string;
  description?: string;
  properties?: Record<string, Schema>;
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  if?: Schema;
  then?: Schema;
  discriminator?: { propertyName: string };
  minimum?: number;
  exclusiveMinimum?: number;
}

export const definitions = experimentSchema.definitions as Record<string, Schema>;

const resolved = new WeakMap<Schema, Schema>();

export function resolve(schema: Schema): Schema {
  if (schema.$ref === undefined) return schema;
  let whole = resolved.get(schema);
  if (whole === undefined) {
    whole = { ...definitions[schema.$ref.split('/').at(-1)!]!, ...schema };
    resolved.set(schema, whole);
  }
  return whole;
}

const resolvedProperties = new WeakMap<Schema, [name: string, property: Schema][]>();

function propertiesOf(schema: Schema, properties: Record<string, Schema>): [name: string, property: Schema][] {
  let list = resolvedProperties.get(schema);
  if (list === undefined) {
    list = Object.entries(properties).map(([name, property]) => [name, resolve(property)]);
    resolvedProperties.set(schema, list);
  }
  return list;
}

const filledDefaults = new WeakMap<Schema, JsonValue>();

/** What stands where a property is left out, itself filled in; undefined when it has no default. Not to be changed. */
function defaultOf(property: Schema): JsonValue | undefined {
  if (property.default === undefined) return undefined;
  let filled = filledDefaults.get(property);
  if (filled === undefined) {
    filled = fill(property, property.default);
    filledDefaults.set(property, filled);
  }
  return filled;
}

/**
 * Fills in what the schema gives as default, deep into mappings. The schema is the only place where a default stands.
 *
 * @param definition name of the definition that `value` is an instance of, such as a step kind.
 * @param value mappings in it that are the same object are filled in once: they are not to be changed, nor is what comes out.
 */
export function withDefaults(definition: string, value: Mapping): Mapping {
  return filledMapping(definitions[definition]!, value) as Mapping;
}

type Mapping = { [name: string]: JsonValue };

const noKeys: ReadonlySet<string> = new Set();

/** The definition that a step's parameters are of: its kind's own, or the branch that one key chooses. */
export function definitionOf(kind: string, value: Mapping): string {
  const { allOf, properties } = definitions[kind]!;
  const branch = allOf?.find(({ if: condition }) => {
    const [[tag, { const: wanted }]] = Object.entries(condition!.properties!) as [[string, Schema]];
    return (value[tag] ?? properties![tag]!.default) === wanted;
  });
  return branch?.then?.$ref?.split('/').at(-1) ?? kind;
}

/** Keys of parameters that another branch of their kind has, and their own definition lacks. */
export function keysOfOthers(kind: string, definition: string, value: Mapping): ReadonlySet<string> {
  if (definition === kind) return noKeys;
  const own = definitions[definition]!.properties!;
  const known = new Set(definitions[kind]!.allOf!.flatMap(({ then }) => Object.keys(resolve(then!).properties!)));
  return new Set(Object.keys(value).filter((key) => known.has(key) && !(key in own)));
}

const filledValues = new WeakMap<Schema, WeakMap<object, JsonValue>>();

/** One result for each value, since instances share most of theirs. */
function fill(schema: Schema, value: JsonValue): JsonValue {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  let known = filledValues.get(schema);
  if (known === undefined) filledValues.set(schema, (known = new WeakMap()));
  let filled = known.get(value);
  if (filled === undefined) known.set(value, (filled = filledMapping(resolve(schema), value)));
  return filled;
}

function filledMapping(schema: Schema, value: Mapping): JsonValue {
  if (schema.anyOf !== undefined) {
    const branch = schema.anyOf.map(resolve).find(({ type, oneOf }) => type === 'object' || oneOf !== undefined);
    return branch === undefined ? value : fill(branch, value);
  }
  if (schema.oneOf !== undefined && schema.discriminator !== undefined) {
    const tag = schema.discriminator.propertyName;
    const branch = schema.oneOf.map(resolve).find(({ properties }) => properties?.[tag]?.const === value[tag]);
    return branch === undefined ? value : fill(branch, value);
  }
  if (schema.properties === undefined) return value;
  const filled: { [key: string]: JsonValue } = {};
  for (const [key, property] of propertiesOf(schema, schema.properties)) {
    const there = key in value ? fill(property, value[key]!) : defaultOf(property);
    if (there !== undefined) filled[key] = there;
  }
  for (const key of Object.keys(value)) if (!(key in filled)) filled[key] = value[key]!;
  return filled;
}
