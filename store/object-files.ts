/** @file Files as objects: cut into parts, so that none is larger than a server takes, and each is sent again by itself. */

import { open } from 'node:fs/promises';
import type { ObjectStorage } from './objects.ts';
import { seal, unseal } from './sealing.ts';

const partBytes = 32 * 1024 * 1024;

const partName = (name: string, index: number): string => `${name}.${index}`;

/** @returns the tags of the parts, in order */
export async function putFile(
  objects: ObjectStorage,
  name: string,
  path: string,
  { sealed }: { sealed: boolean },
): Promise<string[]> {
  const file = await open(path, 'r');
  try {
    const tags: string[] = [];
    for (;;) {
      const buffer = Buffer.allocUnsafe(partBytes);
      const { bytesRead } = await file.read(buffer, 0, partBytes, tags.length * partBytes);
      // An empty file has one part, too.
      if (bytesRead === 0 && tags.length > 0) return tags;
      const part = partName(name, tags.length);
      const content = buffer.subarray(0, bytesRead);
      tags.push((await objects.put(part, sealed ? await seal(part, content) : content))!);
      if (bytesRead < partBytes) return tags;
    }
  } finally {
    await file.close();
  }
}

/** @returns false, with what was read so far in `path`, when a part is missing or does not open */
export async function getFile(
  objects: ObjectStorage,
  name: string,
  path: string,
  { sealed, parts, mode }: { sealed: boolean; parts: number; mode: number },
): Promise<boolean> {
  const file = await open(path, 'wx', mode);
  try {
    for (let index = 0; index < parts; index += 1) {
      const part = partName(name, index);
      const found = await objects.get(part);
      const content = found && (sealed ? await unseal(part, found.content) : found.content);
      if (content === null) return false;
      await file.writeFile(content);
    }
    await file.sync();
    return true;
  } finally {
    await file.close();
  }
}

/** Names of a file's parts. */
export const partsOf = (name: string, count: number): string[] =>
  Array.from({ length: count }, (_, index) => partName(name, index));
