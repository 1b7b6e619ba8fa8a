/** @file From rows to records: the text and label columns, and what is wrong with them. */

import { distance } from 'fastest-levenshtein';

import { EpsilonflowError } from '../schemas/errors.ts';
import type { PlanFile } from '../schemas/plan.ts';
import { plainTextColumn, readRows, type Row, type RowTable } from './rows.ts';
import { type DatasetSource, emptyRecord, type Split, type TextRecord } from './source.ts';

/**
 * Reads the records of one split, in the file's order.
 *
 * Public and benchmark data are checked and the first fault is thrown. Of a private dataset an invalid record becomes
 * the fixed empty record and no message depends on a row.
 *
 * A label cell is matched by its text with `label.values`; an integer that is none of them is taken as an index into
 * `values`, as in files of the Hugging Face hub.
 *
 * @throws EpsilonflowError DATA_FILE_MISSING, DATA_UNREADABLE, DATA_ENCODING, DATA_COLUMN_MISSING,
 *   DATA_RECORD_INVALID, DATA_EMPTY, DATA_ONE_CLASS.
 */
export async function readRecords(source: DatasetSource, split: Split): Promise<TextRecord[]> {
  const { records, faults } = await loadSplit(source, split);
  if (faults.length > 0) throw faults[0]!;
  return records;
}

/** As {@link readRecords}, with all the faults of a split (at most `limit` records are named) in place of a throw. */
export async function loadSplit(
  source: DatasetSource,
  split: Split,
  options: { limit?: number; inspectPrivate?: boolean } = {},
): Promise<{ records: TextRecord[]; faults: EpsilonflowError[] }> {
  const file = source.files[split];
  if (file === undefined) {
    const fault = new EpsilonflowError('DATA_FILE_MISSING', `Dataset ${source.name} has no ${split} split`, {
      hint: `Add files.${split} to the dataset in the spec.`,
    });
    return { records: [], faults: [fault] };
  }
  const hidden = source.sensitivity === 'private' && options.inspectPrivate !== true;
  const wanted = source.label === null ? [source.text] : [source.text, source.label.column];
  let table: RowTable;
  try {
    table = await readRows(file, wanted, hidden);
  } catch (error) {
    if (error instanceof EpsilonflowError) return { records: [], faults: [error] };
    throw error;
  }
  const faults = missingColumns(source, file, table, hidden);
  if (faults.length > 0) return { records: [], faults };

  const read = recordReader(source, file);
  const records: TextRecord[] = [];
  const limit = options.limit ?? 1;
  for (const row of table.rows) {
    const record = isCutPrivately(source, file, row) ? null : read(row);
    if (record !== null) records.push(record);
    else if (hidden) records.push(emptyRecord(source));
    else if (faults.length < limit) faults.push(invalidRecord(source, file, table, row));
  }
  if (!hidden && faults.length === 0) faults.push(...unusable(source, file, split, records));
  return { records, faults };
}

const textColumn = (source: DatasetSource, file: PlanFile): string =>
  file.format === 'txt' ? plainTextColumn : source.text;

function missingColumns(source: DatasetSource, file: PlanFile, table: RowTable, hidden: boolean): EpsilonflowError[] {
  const wanted = [textColumn(source, file), ...(source.label === null ? [] : [source.label.column])];
  let columns = table.columns;
  if (columns === null) {
    // Rows bring their own columns: for private data that is content, so only the declared case is checked there.
    if (hidden || table.rows.length === 0) return [];
    const seen = new Set<string>();
    for (const row of table.rows) for (const column of Object.keys(row.cells ?? {})) seen.add(column);
    columns = [...seen];
  }
  // Without a header line the first row of a private file stands in its place, so its cells are not shown.
  const shown = hidden && file.format !== 'parquet' ? null : columns;
  return wanted.filter((column) => !columns.includes(column)).map((column) => columnMissing(file, column, shown));
}

function columnMissing(file: PlanFile, column: string, columns: string[] | null): EpsilonflowError {
  const message = `Data file ${file.path} has no column "${column}"`;
  if (columns === null) {
    return new EpsilonflowError('DATA_COLUMN_MISSING', message, {
      hint: 'The first line must name the columns. `epsilonflow validate --inspect` shows what it holds.',
    });
  }
  const nearest = [...columns].sort((a, b) => distance(a, column) - distance(b, column))[0];
  const close = nearest !== undefined && distance(nearest, column) <= Math.max(2, column.length / 3);
  const shown = columns.slice(0, 20).map((name) => `"${name}"`);
  const list = shown.join(', ') + (columns.length > 20 ? ', ...' : '');
  const hint =
    file.format === 'txt'
      ? 'A plain text file holds texts only, one a line; give labels in a csv, tsv, jsonl or parquet file.'
      : close
        ? `Did you mean "${nearest}"? The file has ${list}.`
        : `The file has ${columns.length === 0 ? 'no columns' : list}.`;
  return new EpsilonflowError('DATA_COLUMN_MISSING', message, { hint });
}

function recordReader(source: DatasetSource, file: PlanFile): (row: Row) => TextRecord | null {
  const column = textColumn(source, file);
  const { label } = source;
  const index = new Map(label?.values.map((value, position) => [value, position]));
  const labelOf = (cell: unknown): number => {
    if (typeof cell !== 'string' && typeof cell !== 'number' && typeof cell !== 'bigint' && typeof cell !== 'boolean') {
      return -1;
    }
    const name = String(cell);
    const found = index.get(name);
    if (found !== undefined) return found;
    return /^\d{1,9}$/.test(name) && Number(name) < index.size ? Number(name) : -1;
  };
  return ({ cells }) => {
    const text = cells?.[column];
    if (cells === null || typeof text !== 'string') return null;
    if (label === null) return { text, label: -1 };
    const position = labelOf(cells[label.column]);
    return position < 0 ? null : { text, label: position };
  };
}

/** Whether a private record that is looked at will be read as several lines, each a record by itself. */
const isCutPrivately = ({ sensitivity }: DatasetSource, { format }: PlanFile, { cells }: Row): boolean =>
  sensitivity === 'private' &&
  (format === 'csv' || format === 'tsv') &&
  Object.values(cells ?? {}).some((cell) => typeof cell === 'string' && cell.includes('\n'));

/** Says what is wrong with a row of data that is not hidden. */
function invalidRecord(source: DatasetSource, file: PlanFile, table: RowTable, row: Row): EpsilonflowError {
  const where = `${file.path}, ${table.placeUnit} ${row.place}`;
  const position = table.placeUnit === 'line' ? { file: file.path, line: row.place, column: 1 } : undefined;
  const details = position === undefined ? {} : { position };
  const column = textColumn(source, file);
  if (isCutPrivately(source, file, row)) {
    return new EpsilonflowError('DATA_RECORD_INVALID', `Record at ${where} holds a line break`, {
      hint: 'Of private data each line is a record by itself, so that none changes another one: write it as .jsonl.',
      ...details,
    });
  }
  if (row.cells === null) {
    const message = `Record at ${where} does not have the columns of the others`;
    return new EpsilonflowError('DATA_RECORD_INVALID', message, {
      hint: 'Each record has one cell for each column, or is an object.',
      ...details,
    });
  }
  if (typeof row.cells[column] !== 'string') {
    const message = `Record at ${where} has no text in column "${column}"`;
    return new EpsilonflowError('DATA_RECORD_INVALID', message, {
      hint: 'The text must be a string; remove the record or write an empty string.',
      ...details,
    });
  }
  const label = source.label!;
  const cell = row.cells[label.column];
  const shown = cell === undefined || cell === null ? 'nothing' : `"${String(cell).slice(0, 40)}"`;
  return new EpsilonflowError(
    'DATA_RECORD_INVALID',
    `Record at ${where} has ${shown} in label column "${label.column}"`,
    { hint: `label.values knows ${label.values.map((value) => `"${value}"`).join(', ')}.`, ...details },
  );
}

function unusable(source: DatasetSource, file: PlanFile, split: Split, records: TextRecord[]): EpsilonflowError[] {
  if (!records.some((record) => record.text.trim() !== '')) {
    const message = `The ${split} split of dataset ${source.name} holds no usable record (${file.path})`;
    return [new EpsilonflowError('DATA_EMPTY', message, { hint: 'Check the file and the text column.' })];
  }
  if (source.label !== null && records.every((record) => record.label === records[0]!.label)) {
    const only = source.label.values[records[0]!.label];
    const message = `The ${split} split of dataset ${source.name} holds the class "${only}" only (${file.path})`;
    return [
      new EpsilonflowError('DATA_ONE_CLASS', message, {
        hint: 'A classifier needs two classes; check the label column and that the file is not sorted and cut.',
      }),
    ];
  }
  return [];
}
