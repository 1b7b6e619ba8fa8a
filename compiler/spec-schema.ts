/** @file Checks a spec against its JSON Schema and says what is wrong where. */

import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';

import type { JsonValue, StepKind } from '../schemas/plan.ts';
import experimentSchema from '../schemas/experiment.schema.json' with { type: 'json' };
import { didYouMean, type FaultList, suggestion } from './faults.ts';
import { definitions, resolve, type Schema } from './schema-defaults.ts';
import {
  bounds,
  epsilonHint,
  expected,
  expressionPath,
  keyHint,
  lastPart,
  meaning,
  nameOf,
  rewriting,
  show,
} from './fault-wording.ts';
import { child, entriesOf, locate, type Source, toPlain } from './source.ts';

// The schema is checked where it is generated, and code that runs for milliseconds is not worth optimising.
const ajv = new Ajv({
  allErrors: true,
  discriminator: true,
  verbose: true,
  allowUnionTypes: true,
  // What editors show.
  keywords: ['markdownDescription'],
  meta: false,
  validateSchema: false,
  code: { optimize: false },
});
ajv.addSchema(experimentSchema);

const validators = new Map<string, ValidateFunction>();

/** Compiled on first use: compiling the whole schema takes longer than planning a small spec. */
function validator(reference: string): ValidateFunction {
  let validate = validators.get(reference);
  if (validate === undefined) {
    validate = ajv.compile({ $ref: `experiment.schema.json${reference}` });
    validators.set(reference, validate);
  }
  return validate;
}

/** Step kinds in the schema's order. */
export const stepKinds: readonly StepKind[] = (definitions['step']!.oneOf ?? []).map(
  (branch) => branch.properties!['uses']!.const as StepKind,
);

const parts = Object.keys(experimentSchema.properties);

/** A top-level part of the spec, also under a misspelt key, which is one fault and not many. */
export function partOf(root: Source, name: string): Source | undefined {
  const exact = child(root, name);
  if (exact !== undefined) return exact;
  return entriesOf(root).find(([key]) => !parts.includes(key) && didYouMean(key, parts) === name)?.[1].value;
}

/** Checks a whole spec; expressions are taken as they stand. */
export function checkSpec(root: Source, faults: FaultList): void {
  const validate = validator('#');
  if (validate(toPlain(root))) return;
  const errors = relevant(validate.errors ?? []);
  const misspelt = new Set(errors.map((error) => meant(error)));
  for (const error of errors) {
    // A misspelt key is one mistake, not an unknown key and a missing one.
    const { missingProperty } = error.params as { missingProperty?: string };
    if (error.keyword === 'required' && misspelt.has(`${error.instancePath}/${missingProperty}`)) continue;
    report(error, root, faults);
  }
}

type Parameters = { [name: string]: JsonValue };

/** Keywords by which a mapping is valid when its keys are those of another valid one, and each of its values is. */
const byValue = [
  'title',
  'description',
  'markdownDescription',
  'type',
  'additionalProperties',
  'required',
  'properties',
];

const isByValue = (definition: string): boolean =>
  Object.keys(definitions[definition]!).every((word) => byValue.includes(word));

/** Checks parameters of the instances of one spec: what was found valid once is not looked at again. */
export class ParameterCheck {
  /** Keys that go together, by definition. */
  readonly #keys = new Map<string, Set<string>>();
  readonly #values = new Map<string, Set<JsonValue>>();

  /**
   * Checks the parameters of one instance after its expressions were replaced.
   *
   * @param definition of the kind, or the branch of it that they are of
   * @param source the parameters' tree, for the places of faults.
   * @param plain `toPlain(source)`; mappings and lists in it that are the same object are the same value.
   */
  check(definition: string, source: Source, plain: Parameters, faults: FaultList): boolean {
    if (this.#isKnown(definition, plain)) return true;
    if (!checkParameters(definition, source, plain, faults)) return false;
    if (isByValue(definition)) this.#remember(definition, plain);
    return true;
  }

  #isKnown(definition: string, plain: Parameters): boolean {
    const names = Object.keys(plain);
    if (this.#keys.get(definition)?.has(names.join()) !== true) return false;
    return names.every((name) => {
      const values = this.#valuesOf(definition, name);
      const value = plain[name]!;
      if (values.has(value)) return true;
      const isValid = validator(`#/definitions/${definition}/properties/${name}`)(value);
      if (isValid) values.add(value);
      return isValid;
    });
  }

  #remember(definition: string, plain: Parameters): void {
    const keys = this.#keys.get(definition) ?? new Set();
    this.#keys.set(definition, keys.add(Object.keys(plain).join()));
    for (const [name, value] of Object.entries(plain)) this.#valuesOf(definition, name).add(value);
  }

  #valuesOf(definition: string, name: string): Set<JsonValue> {
    const key = `${definition}.${name}`;
    let values = this.#values.get(key);
    if (values === undefined) this.#values.set(key, (values = new Set()));
    return values;
  }
}

function checkParameters(definition: string, source: Source, plain: Parameters, faults: FaultList): boolean {
  const validate = validator(`#/definitions/${definition}`);
  if (validate(plain)) return true;
  // Which keys there are doesn't depend on axes: checkSpec has told of unknown and missing ones.
  const errors = (validate.errors ?? []).filter(({ instancePath }) => instancePath !== '');
  for (const error of relevant(errors)) report(error, source, faults);
  return false;
}

/**
 * Of the errors of an `anyOf` only those that help: none of the expression branch; when a branch failed on the value's
 * content, those; when every branch failed on the value's type, one error that names what is expected.
 */
function relevant(errors: ErrorObject[]): ErrorObject[] {
  const branchErrors = withoutRepeats(errors).filter(({ schemaPath }) => !schemaPath.includes(expressionPath));
  const alternatives = branchErrors.filter(({ keyword }) => keyword === 'anyOf');
  const dropped = new Set<ErrorObject>();
  for (const alternative of alternatives) {
    const inside = branchErrors.filter(
      (error) =>
        error !== alternative && error.keyword !== 'anyOf' && error.instancePath.startsWith(alternative.instancePath),
    );
    const byType = (error: ErrorObject): boolean =>
      error.instancePath === alternative.instancePath && ['type', 'const', 'enum'].includes(error.keyword);
    const useful = inside.filter((error) => !byType(error));
    const enumeration = inside.filter((error) => error.keyword === 'enum');
    if (useful.length > 0) {
      dropped.add(alternative);
      for (const error of inside) if (byType(error)) dropped.add(error);
    } else if (enumeration.length === 1 && inside.length === 1) dropped.add(alternative);
    else for (const error of inside) dropped.add(error);
  }
  return branchErrors.filter((error) => !dropped.has(error));
}

/** Without what both a definition and its branch say, and that the branch says something. */
function withoutRepeats(errors: ErrorObject[]): ErrorObject[] {
  const missing = new Set<string>();
  return errors.filter(({ keyword, instancePath, params }) => {
    if (keyword !== 'required') return keyword !== 'if';
    const said = JSON.stringify([instancePath, params]);
    const isNew = !missing.has(said);
    missing.add(said);
    return isNew;
  });
}

/** The pointer of the key that an unknown key most likely stands for. */
function meant({ keyword, instancePath, params, parentSchema }: ErrorObject): string | undefined {
  if (keyword !== 'additionalProperties') return undefined;
  const unknown = String((params as Record<string, unknown>)['additionalProperty']);
  const guess = didYouMean(unknown, Object.keys((parentSchema as Schema).properties ?? {}));
  return guess === undefined ? undefined : `${instancePath}/${guess}`;
}

function report(error: ErrorObject, root: Source, faults: FaultList): void {
  const { value, key } = locate(root, error.instancePath);
  const name = lastPart(error.instancePath);
  const called = nameOf(error.instancePath);
  const shown = show(error.data);
  const parameters = error.params as Record<string, unknown>;
  switch (error.keyword) {
    case 'additionalProperties': {
      const unknown = String(parameters['additionalProperty']);
      const entry = value.type === 'map' ? value.entries.get(unknown) : undefined;
      const known = Object.keys((error.parentSchema as Schema).properties ?? {});
      const where = name === undefined ? 'at the top' : `in "${name}"`;
      faults.add(
        'SPEC_UNKNOWN_KEY',
        `Unknown key "${unknown}" ${where}`,
        entry?.key.at ?? value.at,
        keyHint(unknown, known),
      );
      return;
    }
    case 'required': {
      const missing = String(parameters['missingProperty']);
      const place = key ?? value;
      faults.add('SPEC_MISSING_KEY', `${called} lacks the key "${missing}"`, place.at, describe(error, missing));
      return;
    }
    case 'discriminator': {
      const tag = String(parameters['tag']);
      const given = parameters['tagValue'];
      const known = tagValues(error.parentSchema as Schema, tag);
      const at = locate(root, `${error.instancePath}/${tag}`).value.at;
      const what = tag === 'uses' ? 'step kind' : 'kind';
      if (typeof given === 'string') {
        faults.add('SPEC_SCHEMA', `Unknown ${what} "${given}"`, at, suggestion(given, known, what));
      } else if (given !== undefined) {
        faults.add('SPEC_SCHEMA', `"${tag}" must be a string, not ${show(given)}`, at, `Known: ${known.join(', ')}.`);
      }
      return;
    }
    case 'propertyNames':
      return;
    case 'pattern': {
      const bad = error.propertyName;
      if (bad !== undefined && value.type === 'map') {
        const at = value.entries.get(bad)?.key.at ?? value.at;
        faults.add(
          'SPEC_SCHEMA',
          `Name "${bad}" may hold letters, digits, "-" and "_" only`,
          at,
          'It starts with a letter.',
        );
      } else {
        const { default: example, description } = error.parentSchema as Schema;
        const [wanted, hint] =
          example === undefined
            ? ['may hold letters, digits, ".", "-" and "_" only, at most 64', 'It starts with a letter or a digit.']
            : [`must be written like ${JSON.stringify(example)}`, meaning(called, description)];
        faults.add('SPEC_SCHEMA', `${called} ${wanted}: ${shown}`, value.at, hint);
      }
      return;
    }
    case 'enum': {
      const known = (parameters['allowedValues'] as JsonValue[]).map(String);
      faults.add(
        'SPEC_SCHEMA',
        `${called} can't be ${shown}`,
        value.at,
        suggestion(String(error.data), known, 'value'),
      );
      return;
    }
    case 'anyOf':
    case 'const':
    case 'type': {
      const wanted = expected(
        error.keyword === 'type' ? { type: parameters['type'] as string } : (error.parentSchema as Schema),
      );
      const schema = error.parentSchema as Schema;
      const hint =
        rewriting(error.data, wanted, schema) ??
        epsilonHint(error.instancePath) ??
        meaning(called, schema.description) ??
        `Give ${wanted}.`;
      faults.add('SPEC_SCHEMA', `${called} must be ${wanted}, not ${shown}`, value.at, hint);
      return;
    }
    case 'minItems':
    case 'minProperties':
      {
        const { limit } = parameters as { limit: number };
        const [fault, hint] =
          limit === 1
            ? ['is empty', 'It needs at least one entry.']
            : ['is too short', `It needs at least ${limit} entries.`];
        faults.add('SPEC_SCHEMA', `${called} ${fault}`, value.at, hint);
      }
      return;
    case 'maxProperties': {
      const { limit } = parameters as { limit: number };
      const hint = limit === 1 ? 'Keep one of them.' : `Keep ${limit} of them.`;
      faults.add('SPEC_SCHEMA', `${called} has too many entries`, value.at, hint);
      return;
    }
    case 'uniqueItems': {
      const { i, j } = parameters as { i: number; j: number };
      const at = locate(root, `${error.instancePath}/${Math.max(i, j)}`).value.at;
      faults.add('SPEC_SCHEMA', `${called} holds the same value twice`, at, 'Keep one of the two.');
      return;
    }
    default:
      faults.add('SPEC_SCHEMA', `${called} ${error.message ?? 'is wrong'}: ${shown}`, value.at, bounds(error));
  }
}

function describe(error: ErrorObject, key: string): string | undefined {
  if (key === 'uses') return `uses: the kind of the step, one of ${stepKinds.join(', ')}.`;
  const property = (error.parentSchema as { properties?: Record<string, { description?: string }> }).properties?.[key];
  if (property?.description === undefined) return undefined;
  return `${key}: ${property.description}`;
}

function tagValues(schema: Schema, tag: string): string[] {
  return (schema.oneOf ?? []).map((branch) => String(resolve(branch).properties?.[tag]?.const));
}
