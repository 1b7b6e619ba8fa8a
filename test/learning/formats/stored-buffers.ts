/** @file Tables that older versions of `transformers` stored beside the weights. */

import { readFile, writeFile } from 'node:fs/promises';

/** Appends a tensor to a safetensors file, of any type. */
export async function addTensor(
  file: string,
  name: string,
  { dtype, shape, bytes }: { dtype: string; shape: readonly number[]; bytes: number },
): Promise<void> {
  const content = await readFile(file);
  const end = 8 + Number(content.readBigUInt64LE());
  const data = content.subarray(end);
  const header = JSON.parse(content.subarray(8, end).toString('utf8')) as Record<string, unknown>;
  const json = Buffer.from(
    JSON.stringify({ ...header, [name]: { dtype, shape, data_offsets: [data.length, data.length + bytes] } }),
  );
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  await writeFile(file, Buffer.concat([length, json, data, Buffer.alloc(bytes)]));
}
