/** @file How byte-level BPE writes bytes and splits text: the convention of GPT-2, which tokenizer.json files share. */

/**
 * One printable character for each byte value: itself where it is printable and no space, a character from U+0100 on
 * otherwise (so a space becomes `Ġ`).
 */
export const byteCharacters: readonly string[] = (() => {
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let shifted = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : shifted++));
})();

/** Splits text into words that keep their leading space; merges never cross a word. */
export const wordPattern = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;
