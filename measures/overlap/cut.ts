/** @file Takes spans of tokens out of a text. */

import type { CommonRun } from './common-runs.ts';
import { TokenReader } from './tokens.ts';

/** Runs of one text that overlap or touch, as one. */
export interface Span {
  text: number;
  /** Tokens, the last one excluded. */
  from: number;
  to: number;
  /** Index of a text of the other side that has the longest of the runs. */
  other: number;
  /** Tokens of that run. */
  longest: number;
}

/** @param runs in the order of texts and tokens */
export function* spansOf(runs: Iterable<CommonRun>): Generator<Span> {
  let span: Span | null = null;
  for (const { text, from, to, other } of runs) {
    if (span === null || span.text !== text || from > span.to) {
      if (span !== null) yield span;
      span = { text, from, to, other, longest: to - from };
    } else {
      span.to = Math.max(span.to, to);
      if (to - from > span.longest) Object.assign(span, { other, longest: to - from });
    }
  }
  if (span !== null) yield span;
}

export interface CutText {
  /** What is left: each piece between two cuts is a text by itself, so that no run arises over a cut. */
  pieces: string[];
  /** What was taken out, from the first character of a span's first token to the last one of its last. */
  spans: string[];
}

/** @param spans of this text, in order and apart */
export function cutText(text: string, spans: readonly Pick<Span, 'from' | 'to'>[]): CutText {
  const cut: CutText = { pieces: [], spans: [] };
  const reader = new TokenReader();
  reader.open(text);
  let place = 0;
  let pieceFrom = 0;
  const keep = (to: number, tokens: number): void => {
    if (tokens > 0) cut.pieces.push(text.slice(pieceFrom, to).trim());
  };
  for (const { from, to } of spans) {
    const before = from - place;
    while (place <= from && reader.next()) place++;
    const spanFrom = reader.from;
    while (place < to && reader.next()) place++;
    keep(spanFrom, before);
    cut.spans.push(text.slice(spanFrom, reader.to));
    pieceFrom = reader.to;
  }
  let rest = 0;
  while (reader.next()) rest++;
  keep(text.length, rest);
  return cut;
}
