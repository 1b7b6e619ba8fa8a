/** @file Cells of CSV and TSV files: as a whole, or, of private data, such that each line is a record by itself. */

import { parse } from 'csv-parse/sync';

export interface CellRow {
  /** Line of the file, from 1, in which the record ends. */
  place: number;
  /** Null when the line is no record by itself. */
  cells: string[] | null;
}

export interface SeparatedFormat {
  delimiter: ',' | '\t';
  /** A TSV file escapes nothing by convention (IANA text/tab-separated-values): a quote there is a character. */
  quote: '"' | null;
}

export const separatedFormats: Record<'csv' | 'tsv', SeparatedFormat> = {
  csv: { delimiter: ',', quote: '"' },
  tsv: { delimiter: '\t', quote: null },
};

/** Records of a text, whose quoted cells may hold line breaks. Throws the parser's error, with the line as `lines`. */
export function cellsOf(text: string, format: SeparatedFormat): CellRow[] {
  const records = parse(text, {
    ...format,
    record_delimiter: ['\r\n', '\n'],
    info: true,
    relax_column_count: true,
    skip_empty_lines: true,
  }) as unknown as { record: string[]; info: { lines: number } }[];
  return records.map(({ record, info }) => ({ place: info.lines, cells: record }));
}

/**
 * Records of a text in which each line that is not empty is one, so that no line changes another line's record: a quote
 * that is open at the end of its line makes that line alone none.
 */
export const cellsByLine = (text: string, format: SeparatedFormat): CellRow[] =>
  text
    .split(/\r?\n/)
    .flatMap((line, index) => (line === '' ? [] : [{ place: index + 1, cells: cellsOfLine(line, format) }]));

function cellsOfLine(line: string, { delimiter, quote }: SeparatedFormat): string[] | null {
  const cells: string[] = [];
  for (let at = 0; ; at += 1) {
    let end: number;
    if (line[at] === quote) {
      const cell = quotedCell(line, at);
      if (cell === null) return null;
      cells.push(cell.text);
      end = cell.end;
      if (end < line.length && line[end] !== delimiter) return null;
    } else {
      const found = line.indexOf(delimiter, at);
      end = found < 0 ? line.length : found;
      cells.push(line.slice(at, end));
    }
    if (end === line.length) return cells;
    at = end;
  }
}

/** The cell whose quote opens at `start`, and where it has ended; quotes inside are doubled. */
function quotedCell(line: string, start: number): { text: string; end: number } | null {
  let text = '';
  for (let from = start + 1; ;) {
    const end = line.indexOf('"', from);
    if (end < 0) return null;
    text += line.slice(from, end);
    if (line[end + 1] !== '"') return { text, end: end + 1 };
    text += '"';
    from = end + 2;
  }
}
