/** @file Values of a JSON file, with errors that name the file. */

import { readFile } from 'node:fs/promises';
import { EpsilonflowError } from '../../schemas/errors.ts';

export interface JsonReader {
  json: Record<string, unknown>;
  /** @throws EpsilonflowError MODEL_INVALID */
  fault(what: string): never;
  /** A number; the fallback where it is missing or null. */
  number(key: string, fallback?: number): number;
}

/** @param file named in messages */
export function jsonReader(file: string, json: Record<string, unknown>): JsonReader {
  const fault = (what: string): never => {
    throw new EpsilonflowError('MODEL_INVALID', `${file}: ${what}.`);
  };
  const number = (key: string, fallback?: number): number => {
    const value = json[key] ?? fallback;
    return typeof value === 'number' ? value : fault(`${key} is missing or not a number`);
  };
  return { json, fault, number };
}

/** A JSON object. @throws EpsilonflowError MODEL_INVALID when the file can't be read or is none. */
export async function readJsonFile(file: string): Promise<Record<string, unknown>> {
  const invalid = (what: string, cause?: unknown): never => {
    throw new EpsilonflowError('MODEL_INVALID', `${file} ${what}.`, { cause });
  };
  const text = await readFile(file, 'utf8').catch((cause: unknown) => invalid('cannot be read', cause));
  try {
    const json: unknown = JSON.parse(text);
    return typeof json === 'object' && json !== null ? (json as Record<string, unknown>) : invalid('is no JSON object');
  } catch (cause) {
    if (cause instanceof SyntaxError) return invalid('is not JSON', cause);
    throw cause;
  }
}
