/** @file A report as a value: sections of blocks, which HTML and Markdown are made from. Strings are literal text. */

export type Inline = string | { code: string } | { strong: string } | { link: string; text: string };

export type Text = string | Inline[];

export interface Column {
  title: string;
  align: 'left' | 'right';
  /** Its cells stay on one line. */
  together?: boolean;
}

export type Block =
  | { kind: 'paragraph'; text: Text }
  | { kind: 'list'; items: Text[] }
  | { kind: 'table'; caption: string; columns: Column[]; rows: Text[][] }
  /** A picture with a description for those who don't see it; its numbers stand in a table of the same section. */
  | { kind: 'figure'; svg: string; caption: string; description: string }
  | { kind: 'code'; text: string };

export interface Section {
  /** Anchor. */
  id: string;
  title: string;
  blocks: Block[];
}

export interface ReportDocument {
  title: string;
  /** Facts under the title: started, status ... */
  facts: [string, string][];
  sections: Section[];
}

/** Columns by title; a title that ends in `:right` is of numbers. */
export const columns = (...names: string[]): Column[] =>
  names.map((name) => ({ title: name.replace(/:right$/, ''), align: name.endsWith(':right') ? 'right' : 'left' }));
