/** @file A data file's bytes: decompression, strict UTF-8, lines. */

import { isUtf8 } from 'node:buffer';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { brotliDecompress, gunzip } from 'node:zlib';

import { EpsilonflowError } from '../schemas/errors.ts';
import type { PlanFile } from '../schemas/plan.ts';

const decompress = { gzip: promisify(gunzip), brotli: promisify(brotliDecompress) };

/**
 * The file's content, decompressed.
 *
 * @throws EpsilonflowError DATA_FILE_MISSING when it can't be opened, DATA_UNREADABLE when it is not compressed as
 *   said.
 */
export async function readBytes(file: PlanFile): Promise<Buffer> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file.path);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const reason = code === 'ENOENT' ? 'does not exist' : `cannot be read (${code ?? 'unknown error'})`;
    throw new EpsilonflowError('DATA_FILE_MISSING', `Data file ${file.path} ${reason}`, {
      hint: 'Paths in a spec are relative to the spec file; check the path and its permissions.',
      cause,
    });
  }
  if (file.compression === 'none') return bytes;
  try {
    return await decompress[file.compression](bytes);
  } catch {
    // zlib's own error is left out: it adds nothing that a user could act upon.
    throw new EpsilonflowError('DATA_UNREADABLE', `Data file ${file.path} is not valid ${file.compression} data`, {
      hint: 'The file may be cut short, or its ending may not say how it is compressed.',
    });
  }
}

/**
 * Offset of the first byte that is not part of valid UTF-8 (RFC 3629: no overlong forms, no surrogates), or -1.
 * Linear; the common case is one native pass.
 */
export function firstInvalidByte(bytes: Buffer): number {
  if (isUtf8(bytes)) return -1;
  let at = 0;
  while (at < bytes.length) {
    const lead = bytes[at]!;
    const length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (length === 0 || at + length > bytes.length || !isUtf8(bytes.subarray(at, at + length))) return at;
    at += length;
  }
  return -1;
}

/** DATA_ENCODING when the bytes are not UTF-8: says line and byte offset, counted in the decompressed content. */
export function encodingFault(file: PlanFile, bytes: Buffer): EpsilonflowError | null {
  const offset = firstInvalidByte(bytes);
  if (offset < 0) return null;
  let line = 1;
  let lineStart = 0;
  for (let at = bytes.indexOf(10); at >= 0 && at < offset; at = bytes.indexOf(10, at + 1)) {
    line += 1;
    lineStart = at + 1;
  }
  const byte = bytes[offset]!.toString(16).padStart(2, '0');
  return new EpsilonflowError(
    'DATA_ENCODING',
    `Data file ${file.path} is not valid UTF-8: byte 0x${byte} at line ${line}, offset ${offset}`,
    {
      hint: 'Convert the file, for instance with: iconv -f WINDOWS-1252 -t UTF-8 IN > OUT',
      position: { file: file.path, line, column: offset - lineStart + 1 },
    },
  );
}

const strict = new TextDecoder('utf-8', { fatal: true });
const lossy = new TextDecoder('utf-8');

/** The bytes as text without a byte order mark; null when they are not UTF-8. */
export function decodeStrictly(bytes: Buffer): string | null {
  try {
    return strict.decode(bytes);
  } catch {
    return null;
  }
}

/** The bytes as text without a byte order mark; what is not UTF-8 becomes U+FFFD. */
export const decodeLossily = (bytes: Buffer): string => lossy.decode(bytes);

/** Lines without their ends (`\n` or `\r\n`), with their numbers from 1. A last empty line is none. */
export function* lines(bytes: Buffer): Generator<{ line: number; bytes: Buffer }> {
  let line = 0;
  let start = 0;
  while (start < bytes.length) {
    const found = bytes.indexOf(10, start);
    const end = found < 0 ? bytes.length : found;
    line += 1;
    yield { line, bytes: bytes.subarray(start, end > start && bytes[end - 1] === 13 ? end - 1 : end) };
    start = end + 1;
  }
}
