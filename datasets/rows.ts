/** @file Rows of a data file in each format that a spec may name, before anything is known of text and label. */

import { parquetMetadataAsync, parquetReadObjects, parquetSchema } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';

import { EpsilonflowError } from '../schemas/errors.ts';
import type { PlanFile } from '../schemas/plan.ts';
import { cellsByLine, cellsOf, separatedFormats, type CellRow, type SeparatedFormat } from './separated.ts';
import { decodeLossily, decodeStrictly, encodingFault, lines, readBytes } from './text-file.ts';

export interface Row {
  /** Line in the file (from 1) for line formats, else the record's number (from 1). */
  place: number;
  /** Cells by column; null when the row can't be read as one. */
  cells: Record<string, unknown> | null;
}

export interface RowTable {
  rows: Row[];
  /** Columns that the file itself declares (CSV header, Parquet schema); null when each row brings its own. */
  columns: string[] | null;
  /** What `place` counts. */
  placeUnit: 'line' | 'record';
}

/** The column under which a plain text file offers its lines, whatever name the spec gives to the text. */
export const plainTextColumn = 'text';

/**
 * Reads a file's rows. With `tolerant` (private data) a row that can't be read has null cells and nothing is thrown
 * for it, so that no message depends on a row; otherwise the first such row throws.
 *
 * @param wanted columns to read where the format can leave out others.
 * @throws EpsilonflowError DATA_FILE_MISSING, DATA_UNREADABLE, DATA_ENCODING.
 */
export async function readRows(file: PlanFile, wanted: string[], tolerant: boolean): Promise<RowTable> {
  const bytes = await readBytes(file);
  if (file.format === 'parquet') return readParquet(file, bytes, wanted);
  if (!tolerant) {
    const fault = encodingFault(file, bytes);
    if (fault !== null) throw fault;
  }
  switch (file.format) {
    case 'jsonl':
      return { rows: readJsonLines(file, bytes, tolerant), columns: null, placeUnit: 'line' };
    case 'txt':
      return { rows: readPlainText(bytes), columns: [plainTextColumn], placeUnit: 'line' };
    case 'json':
      return readJson(file, bytes);
    case 'csv':
    case 'tsv':
      return readSeparated(file, bytes, separatedFormats[file.format], tolerant);
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function readJsonLines(file: PlanFile, bytes: Buffer, tolerant: boolean): Row[] {
  const rows: Row[] = [];
  for (const { line, bytes: content } of lines(bytes)) {
    const text = decodeStrictly(content);
    if (text !== null && text.trim() === '') continue;
    let cells: Record<string, unknown> | null = null;
    try {
      const value: unknown = text === null ? null : JSON.parse(text);
      if (isObject(value)) cells = value;
    } catch {
      cells = null;
    }
    if (cells === null && !tolerant) {
      throw new EpsilonflowError('DATA_UNREADABLE', `Data file ${file.path}, line ${line} is not a JSON object`, {
        hint: 'A .jsonl file holds one JSON object a line; an array of objects is format json.',
        position: { file: file.path, line, column: 1 },
      });
    }
    rows.push({ place: line, cells });
  }
  return rows;
}

function readPlainText(bytes: Buffer): Row[] {
  const rows: Row[] = [];
  for (const { line, bytes: content } of lines(bytes)) {
    const text = decodeStrictly(content);
    if (text !== null && text.trim() === '') continue;
    rows.push({ place: line, cells: text === null ? null : { [plainTextColumn]: text } });
  }
  return rows;
}

function readJson(file: PlanFile, bytes: Buffer): RowTable {
  const unreadable = (): EpsilonflowError =>
    new EpsilonflowError('DATA_UNREADABLE', `Data file ${file.path} is not a JSON array of objects`, {
      hint: 'Write it as [{"text": ..., "label": ...}, ...], or one object a line and call it .jsonl.',
    });
  let value: unknown;
  try {
    value = JSON.parse(decodeLossily(bytes));
  } catch {
    throw unreadable();
  }
  if (!Array.isArray(value)) throw unreadable();
  const rows = value.map((cells: unknown, index) => ({ place: index + 1, cells: isObject(cells) ? cells : null }));
  return { rows, columns: null, placeUnit: 'record' };
}

/** Of private data each line is a record by itself, and one that is none has null cells. */
function readSeparated(file: PlanFile, bytes: Buffer, format: SeparatedFormat, tolerant: boolean): RowTable {
  const unreadable = (at?: number): EpsilonflowError =>
    new EpsilonflowError(
      'DATA_UNREADABLE',
      `Data file ${file.path} is not valid ${file.format.toUpperCase()}${at === undefined ? '' : `: see line ${at}`}`,
      { hint: 'Cells that hold a comma, a quote or a line end stand in double quotes, quotes inside doubled.' },
    );
  let records: CellRow[];
  try {
    const text = decodeLossily(bytes);
    records = tolerant ? cellsByLine(text, format) : cellsOf(text, format);
  } catch (cause) {
    throw unreadable(cause instanceof Error ? (cause as Error & { lines?: number }).lines : undefined);
  }
  const [header, ...body] = records;
  if (header === undefined) return { rows: [], columns: [], placeUnit: 'line' };
  const columns = header.cells;
  if (columns === null) throw unreadable();
  const rows = body.map(({ place, cells: record }): Row => {
    // A private record with a replacement character may have been cut from bytes that are no text.
    const isBroken = record?.length !== columns.length || (tolerant && record.some((cell) => cell.includes('\uFFFD')));
    return { place, cells: isBroken ? null : Object.fromEntries(columns.map((column, i) => [column, record[i]])) };
  });
  return { rows, columns, placeUnit: 'line' };
}

async function readParquet(file: PlanFile, bytes: Buffer, wanted: string[]): Promise<RowTable> {
  // A copy only when the buffer is a slice of a pool: hyparquet reads from the start of an ArrayBuffer.
  const whole = bytes.byteOffset === 0 && bytes.byteLength === bytes.buffer.byteLength;
  const buffer = (whole ? bytes.buffer : new Uint8Array(bytes).buffer) as ArrayBuffer;
  const source = {
    byteLength: buffer.byteLength,
    slice: (start: number, end?: number): ArrayBuffer => buffer.slice(start, end),
  };
  try {
    const metadata = await parquetMetadataAsync(source);
    const columns = parquetSchema(metadata).children.map((child) => child.element.name);
    const present = wanted.filter((column) => columns.includes(column));
    const objects =
      present.length === 0
        ? []
        : await parquetReadObjects({ file: source, metadata, columns: present, compressors, utf8: true });
    return {
      rows: objects.map((cells, index) => ({ place: index + 1, cells })),
      columns,
      placeUnit: 'record',
    };
  } catch {
    throw new EpsilonflowError('DATA_UNREADABLE', `Data file ${file.path} is not a Parquet file that can be read`, {
      hint: 'Check that the file is complete; it must start and end with the bytes PAR1.',
    });
  }
}
