import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';

import { tracesIn } from './find-traces.ts';

const secret = 'zqxjv-0123-kwyb';

describe('the search for traces', () => {
  it.each<[string, Buffer]>([
    ['utf-8', Buffer.from(`before ${secret} after`)],
    ['utf-8', Buffer.from(`BEFORE ${secret.toUpperCase()}`)],
    ['utf-16', Buffer.from(`before ${secret} after`, 'utf16le')],
    ['utf-16', Buffer.from(`before ${secret} after`, 'utf16le').swap16()],
    ['hex', Buffer.from(Buffer.from(`.${secret}.`).toString('hex'))],
    ['utf-8', gzipSync(Buffer.from(`packed ${secret}`))],
    ['utf-8', Buffer.concat([Buffer.from('a page of a database '), gzipSync(Buffer.from(secret))])],
    ...['', 'a', 'ab', 'abc'].map((before): [string, Buffer] => [
      'base64',
      Buffer.from(`{"data":"${Buffer.from(`${before}${secret} and more`).toString('base64')}"}`),
    ]),
  ])('finds %s', (encoding, bytes) => {
    expect(tracesIn(bytes, [secret]).join()).toContain(`${secret} (${encoding}`);
  });

  it('finds nothing elsewhere', () => {
    expect(tracesIn(Buffer.from('zqxjv-0123-kwy'), [secret])).toEqual([]);
  });
});
