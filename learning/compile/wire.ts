/** @file Protocol-buffer wire format, writing only: fields as byte strings, messages as their concatenation. */

export type Bytes = Buffer;

function varint(value: number | bigint): Bytes {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes: number[] = [];
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

const tag = (field: number, wireType: 0 | 2 | 5): Bytes => varint(field * 8 + wireType);

/** Integer, enumeration or boolean. */
export const integerField = (field: number, value: number | bigint): Bytes =>
  Buffer.concat([tag(field, 0), varint(value)]);

/** String, bytes or embedded message. */
export function bytesField(field: number, content: string | Bytes): Bytes {
  const bytes = typeof content === 'string' ? Buffer.from(content, 'utf8') : content;
  return Buffer.concat([tag(field, 2), varint(bytes.length), bytes]);
}

export function floatField(field: number, value: number): Bytes {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([tag(field, 5), bytes]);
}

export const message = (...parts: (Bytes | Bytes[])[]): Bytes => Buffer.concat(parts.flat());

/** A map with string keys: each entry a message of key (1) and value (2). */
export const mapField = (field: number, entries: Record<string, string | Bytes>): Bytes[] =>
  Object.entries(entries).map(([key, value]) => bytesField(field, message(bytesField(1, key), bytesField(2, value))));
