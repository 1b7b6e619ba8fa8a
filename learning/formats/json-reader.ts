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
    throw new EpsilonflowError('MODEL_INVALID', `${file}: ${what}.`, {
      hint: 'Use a model of a kind that is supported; fetch it again if its files are damaged.',
    });
  };
  const number = (key: string, fallback?: number): number => {
    const value = json[key] ?? fallback;
    return typeof value === 'number' ? value : fault(`${key} is missing or not a number`);
  };
  return { json, fault, number };
}

/** Whether a value of JSON is an object. */
export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A JSON object. @throws EpsilonflowError MODEL_INVALID when the file can't be read or is none. */
export async function readJsonFile(file: string): Promise<Record<string, unknown>> {
  const invalid = (what: string, cause?: unknown): never => {
    throw new EpsilonflowError('MODEL_INVALID', `${file} ${what}.`, { hint: 'Fetch or write the file again.', cause });
  };
  const text = await readFile(file, 'utf8').catch((cause: unknown) => invalid('cannot be read', cause));
  try {
    const json: unknown = JSON.parse(text);
    return isRecord(json) ? json : invalid('is no JSON object');
  } catch (cause) {
    if (cause instanceof SyntaxError) return invalid('is not JSON', cause);
    throw cause;
  }
}
