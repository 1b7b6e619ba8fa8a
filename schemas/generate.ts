/**
 * @file Makes what is derived from the spec's JSON Schema: its TypeScript types, its reference page, and in the schema
 * itself the texts that editors show, which tell the default too.
 * Run it after a change of the schema: `node --import tsx schemas/generate.ts`. A test holds the files equal to it.
 */

import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { compile, type JSONSchema } from 'json-schema-to-typescript';
import prettier from 'prettier';

interface Schema {
  $ref?: string;
  type?: string | string[];
  const?: unknown;
  enum?: unknown[];
  default?: unknown;
  title?: string;
  description?: string;
  properties?: Record<string, Schema>;
  additionalProperties?: boolean | Schema;
  required?: string[];
  items?: Schema;
  anyOf?: Schema[];
  oneOf?: Schema[];
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  definitions?: Record<string, Schema>;
}

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** Path from the package's root -> content. */
export async function generated(): Promise<Record<string, string>> {
  const text = await readFile(at('experiment.schema.json'), 'utf8');
  const schema = JSON.parse(text) as Schema;
  return {
    'schemas/experiment.schema.json': await format('schemas/experiment.schema.json', withEditorTexts(text)),
    'schemas/experiment.ts': await types(text),
    'docs/spec-reference.md': await format('docs/spec-reference.md', reference(schema)),
  };
}

async function format(path: string, content: string): Promise<string> {
  const file = at(`../${path}`);
  return prettier.format(content, { ...(await prettier.resolveConfig(file)), filepath: file });
}

async function types(text: string): Promise<string> {
  const body = await compile(JSON.parse(text) as JSONSchema, 'Experiment', {
    bannerComment:
      '/** @file Types of a spec. Made from experiment.schema.json by schemas/generate.ts: change that. */',
    additionalProperties: false,
    format: false,
  });
  return format('schemas/experiment.ts', body);
}

/** Each key that has a default says so where editors look first. */
function withEditorTexts(text: string): string {
  const revised = JSON.parse(text, (_key, value: unknown) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
    const { markdownDescription: _, ...schema } = value as Schema & { markdownDescription?: string };
    if (typeof schema.description !== 'string') return value;
    const initial = defaultText(schema, false);
    if (initial === '') return schema;
    const markdownDescription = `${schema.description}\n\nDefault: ${initial}.`;
    const entries = Object.entries(schema);
    entries.splice(entries.findIndex(([key]) => key === 'description') + 1, 0, [
      'markdownDescription',
      markdownDescription,
    ]);
    return Object.fromEntries(entries);
  }) as Schema;
  return JSON.stringify(revised, null, 2);
}

const anchor = (name: string): string => `[${name}](#${name})`;
const isExpression = ({ $ref }: Schema): boolean => $ref === '#/definitions/expression';

/** What a value may be, in words. */
function typeText(schema: Schema): string {
  if (schema.$ref !== undefined) return anchor(schema.$ref.split('/').at(-1)!);
  if (schema.const !== undefined) return `\`${String(schema.const)}\``;
  if (schema.enum !== undefined) return schema.enum.map((value) => `\`${String(value)}\``).join(' or ');
  const alternatives = schema.anyOf ?? schema.oneOf;
  if (alternatives !== undefined)
    return alternatives
      .filter((branch) => !isExpression(branch))
      .map(typeText)
      .join(' or ');
  if (schema.type === 'array') return `list of ${typeText(schema.items ?? {})}`;
  if (schema.type === 'object') {
    return typeof schema.additionalProperties === 'object'
      ? `mapping to ${typeText(schema.additionalProperties)}`
      : 'mapping';
  }
  return [schema.type ?? 'anything'].flat().join(' or ') + rangeText(schema);
}

function rangeText({ minimum, maximum, exclusiveMinimum, exclusiveMaximum }: Schema): string {
  const bounds = [
    minimum === undefined ? '' : `>= ${minimum}`,
    exclusiveMinimum === undefined ? '' : `> ${exclusiveMinimum}`,
    maximum === undefined ? '' : `<= ${maximum}`,
    exclusiveMaximum === undefined ? '' : `< ${exclusiveMaximum}`,
  ].filter((bound) => bound !== '');
  return bounds.length === 0 ? '' : ` ${bounds.join(', ')}`;
}

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');

function defaultText(property: Schema, required: boolean): string {
  if (required) return 'needed';
  if (property.default === undefined) return '';
  const text = JSON.stringify(property.default);
  return text === '{}' ? 'its defaults' : `\`${text}\``;
}

function keyTable({ properties = {}, required = [] }: Schema): string {
  const rows = Object.entries(properties).map(([key, property]) => {
    const initial = defaultText(property, required.includes(key));
    return `| \`${key}\` | ${cell(typeText(property))} | ${cell(initial)} | ${cell(property.description ?? '')} |`;
  });
  return ['| key | value | default | meaning |', '| --- | --- | --- | --- |', ...rows].join('\n');
}

/** Nested mappings without a definition of their own, each with a table under the path of its key. */
function nestedTables(name: string, schema: Schema): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([key, property]) => {
    const nested = property.type === 'array' ? property.items : property;
    if (nested?.properties === undefined) return [];
    return [`### ${name}.${key}\n\n${keyTable(nested)}`, ...nestedTables(`${name}.${key}`, nested)];
  });
}

function section(name: string, schema: Schema): string {
  const heading = `## ${name}\n\n${schema.description ?? ''}`;
  if (schema.properties !== undefined) return [heading, keyTable(schema), ...nestedTables(name, schema)].join('\n\n');
  if (name === 'step') {
    const branches = schema.oneOf ?? [];
    const kinds = branches.map(({ properties }) => anchor(String(properties!['uses']!.const))).join(', ');
    return `${heading}\n\n${keyTable(branches[0]!)}\n\nKinds: ${kinds}. \`with\` takes the keys of the kind's own section.`
      .replace('`pretrain`', 'the kind')
      .replace('[pretrain](#pretrain)', 'parameters of the kind');
  }
  return `${heading}\n\nValue: ${typeText(schema)}.`;
}

function reference(schema: Schema): string {
  const sections = Object.entries(schema.definitions ?? {}).filter(([name]) => name !== 'expression');
  return [
    '# Spec reference',
    '<!-- Made from schemas/experiment.schema.json by schemas/generate.ts: change that. -->',
    `${schema.description} What the parts mean together is in [concepts](concepts.md). An unknown key is an error.`,
    'Where a table of a step kind names a value, an expression `${{ matrix.AXIS }}` may stand instead; inputs also take `${{ steps.STEP }}`.',
    '## Top level',
    keyTable(schema),
    ...nestedTables('spec', schema),
    ...sections.map(([name, definition]) => section(name, definition)),
  ].join('\n\n');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  for (const [path, content] of Object.entries(await generated())) {
    await writeFile(at(`../${path}`), content);
    process.stdout.write(`${path}\n`);
  }
}
