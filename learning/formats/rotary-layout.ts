/** @file Order of the rows that produce queries and keys: rotary pairs as neighbours (2i, 2i+1) or as halves. */

/**
 * Rows of each head from neighbouring pairs to halves (i, i + width/2), the order of this decoder and of Hugging Face.
 *
 * @param values [heads * width, columns]
 * @param width of a head
 */
export function toHalves(values: Float32Array, columns: number, width: number): Float32Array {
  const result = new Float32Array(values.length);
  const rows = values.length / columns;
  for (let row = 0; row < rows; row++) {
    const head = Math.floor(row / width);
    const place = row % width;
    const source = head * width + (place < width / 2 ? 2 * place : 2 * (place - width / 2) + 1);
    result.set(values.subarray(source * columns, (source + 1) * columns), row * columns);
  }
  return result;
}
