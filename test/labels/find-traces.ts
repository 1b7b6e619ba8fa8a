/** @file Searches folders and texts for strings that must not be there, in the encodings that they may hide in. */

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { brotliDecompressSync, gunzipSync, inflateSync } from 'node:zlib';

/** Part of a string's base64 that is the same wherever the string stands in what was encoded. */
function base64Parts(secret: Buffer): string[] {
  return [0, 1, 2].map((offset) => {
    const encoded = Buffer.concat([Buffer.alloc(offset), secret])
      .toString('base64')
      .replace(/=+$/, '');
    // The first characters hold bits of what stands before, the last one of what comes after.
    return encoded.slice(offset === 0 ? 0 : offset + 1, -1);
  });
}

interface Needle {
  text: string;
  encoding: string;
}

/** Base64 depends on case; the others are sought in any case, since preparations of text may change it. */
function needlesOf(secret: string): { folded: Needle[]; exact: Needle[] } {
  const wide = Buffer.from(secret, 'utf16le');
  const exact = [Buffer.from(secret), wide].flatMap((bytes) =>
    base64Parts(bytes).flatMap((text) => [
      { text, encoding: 'base64' },
      { text: text.replaceAll('+', '-').replaceAll('/', '_'), encoding: 'base64url' },
    ]),
  );
  const folded = [
    { text: secret, encoding: 'utf-8' },
    // The zero bytes stand before or after: without the outer ones both orders of bytes are found.
    { text: wide.subarray(0, -1).toString('latin1'), encoding: 'utf-16' },
    { text: Buffer.from(secret).toString('hex'), encoding: 'hex' },
  ];
  return { folded: folded.map(({ text, encoding }) => ({ text: text.toLowerCase(), encoding })), exact };
}

/** Bytes as they are, and whatever they unpack to. */
function layersOf(bytes: Buffer): Buffer[] {
  const layers = [bytes];
  const unpack = [gunzipSync, inflateSync, ...(bytes.length < 1 << 20 ? [brotliDecompressSync] : [])];
  for (const open of unpack) {
    try {
      layers.push(open(bytes));
    } catch {
      // Not packed in that way.
    }
  }
  // A compressed part inside a larger file, such as a blob of a database.
  for (let at = bytes.indexOf('1f8b08', 0, 'hex'); at >= 0; at = bytes.indexOf('1f8b08', at + 1, 'hex')) {
    try {
      layers.push(gunzipSync(bytes.subarray(at)));
    } catch {
      // Only looks like one, or something stands behind it.
    }
  }
  return layers;
}

/** Encodings in which the bytes hold one of the secrets, as `secret (encoding)`. */
export function tracesIn(bytes: Buffer, secrets: readonly string[]): string[] {
  const found = new Set<string>();
  for (const layer of layersOf(bytes)) {
    const text = layer.toString('latin1');
    const folded = text.toLowerCase();
    for (const secret of secrets) {
      const needles = needlesOf(secret);
      for (const needle of needles.exact) if (text.includes(needle.text)) found.add(`${secret} (${needle.encoding})`);
      for (const needle of needles.folded)
        if (folded.includes(needle.text)) found.add(`${secret} (${needle.encoding})`);
    }
  }
  return [...found];
}

/** Files below a folder, without what lies in the excepted ones. */
export function filesBelow(folder: string, except: readonly string[] = []): string[] {
  if (except.includes(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return filesBelow(path, except);
    return entry.isFile() && !except.includes(path) ? [path] : [];
  });
}

export interface Search {
  files: number;
  bytes: number;
  /** `path: secret (encoding)`. */
  traces: string[];
}

/** Searches names and contents of all files below a folder. */
export function searchFolder(folder: string, secrets: readonly string[], except: readonly string[] = []): Search {
  const search: Search = { files: 0, bytes: 0, traces: [] };
  for (const path of filesBelow(folder, except)) {
    const name = relative(folder, path);
    search.files += 1;
    search.bytes += statSync(path).size;
    const content = Buffer.concat([Buffer.from(`${name}\n`), readFileSync(path)]);
    for (const bytes of [content, readFileSync(path)]) {
      search.traces.push(...tracesIn(bytes, secrets).map((trace) => `${name}: ${trace}`));
    }
  }
  search.traces = [...new Set(search.traces)];
  return search;
}
