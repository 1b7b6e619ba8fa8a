/**
 * @file Tokens of a text, as overlap counts them: letters, marks and digits that follow each other, in lower case and
 * compatibility form (NFKC); spaces and punctuation only part them. In scripts that put no spaces between words each
 * character is a token. So a passage is found again with other line breaks, quotes or capitals, whatever tokenizer a
 * model has.
 */

/** What a character is in a token. */
const kind = { between: 0, word: 1, mark: 2, alone: 3 } as const;

const spaceless =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u;

function kindOf(character: string): number {
  if (/\p{M}/u.test(character)) return kind.mark;
  if (!/[\p{L}\p{N}]/u.test(character)) return kind.between;
  return spaceless.test(character) ? kind.alone : kind.word;
}

const surrogates = { from: 0xd800, to: 0xdfff } as const;

/** By UTF-16 unit. */
const kinds = Uint8Array.from({ length: 0x10000 }, (_, unit) =>
  unit >= surrogates.from && unit <= surrogates.to ? kind.between : kindOf(String.fromCharCode(unit)),
);

/** Reads one token after the other; what it holds is of the token that was read last. */
export class TokenReader {
  /** UTF-16 units of the token in its compared form: the first `length` of them. */
  units = new Uint16Array(64);
  length = 0;
  /** 32 bits. */
  hash = 0;
  /** Where it stands in the text, UTF-16 units. */
  from = 0;
  to = 0;
  #text = '';
  /** Units of the character that was looked at last. */
  #width = 1;

  open(text: string): void {
    this.#text = text;
    this.from = this.to = 0;
  }

  /** False at the end of the text. */
  next(): boolean {
    const { length } = this.#text;
    let place = this.to;
    let first: number = kind.between;
    for (; place < length; place += this.#width) {
      first = this.#kindAt(place);
      if (first !== kind.between) break;
    }
    if (place >= length) return false;
    this.from = place;
    for (place += this.#width; place < length; place += this.#width) {
      const next = this.#kindAt(place);
      if (next !== kind.mark && (next !== kind.word || first === kind.alone)) break;
    }
    this.to = place;
    this.#take();
    return true;
  }

  #kindAt(place: number): number {
    const unit = this.#text.charCodeAt(place);
    this.#width = 1;
    if (unit < surrogates.from || unit > surrogates.to) return kinds[unit]!;
    const character = String.fromCodePoint(this.#text.codePointAt(place)!);
    this.#width = character.length;
    return kindOf(character);
  }

  /** Takes the token's compared form and its hash (FNV-1a). */
  #take(): void {
    let source = this.#text;
    let { from, to } = this;
    for (let place = from; place < to; place++) {
      if (source.charCodeAt(place) < 128) continue;
      source = source.slice(from, to).normalize('NFKC').toLowerCase();
      [from, to] = [0, source.length];
      break;
    }
    this.length = to - from;
    if (this.length > this.units.length) this.units = new Uint16Array(2 * this.length);
    let hash = 0x811c9dc5;
    for (let index = 0; index < this.length; index++) {
      let unit = source.charCodeAt(from + index);
      if (unit >= 65 && unit <= 90) unit += 32;
      this.units[index] = unit;
      hash = Math.imul(hash ^ unit, 0x01000193);
    }
    this.hash = hash ^ (hash >>> 15);
  }
}

/** Numbers distinct tokens from 0 on, in the order in which they come. Exact: equal hashes are told apart. */
export class TokenNumbers {
  size = 0;
  /** Units of all tokens one after the other, and where each ends. */
  #units = new Uint16Array(1 << 12);
  #ends = new Uint32Array(1 << 10);
  /** Numbers + 1 at the place of their hash or after it; 0 where nothing is. */
  #table = new Uint32Array(1 << 11);
  #hashes = new Int32Array(1 << 10);

  /** Number of the token that a reader is at; -1 when it has none. */
  find(token: TokenReader): number {
    return this.#table[this.#place(token)]! - 1;
  }

  /** The same; one that has none gets the next. */
  number(token: TokenReader): number {
    const place = this.#place(token);
    const known = this.#table[place]!;
    if (known > 0) return known - 1;
    const number = this.size++;
    this.#table[place] = this.size;
    this.#store(token, number);
    if (2 * this.size > this.#table.length) this.#widen();
    return number;
  }

  #place(token: TokenReader): number {
    const mask = this.#table.length - 1;
    let place = token.hash & mask;
    for (let known = this.#table[place]!; known > 0; known = this.#table[place]!) {
      if (this.#hashes[known - 1] === token.hash && this.#isToken(known - 1, token)) break;
      place = (place + 1) & mask;
    }
    return place;
  }

  #start(number: number): number {
    return number === 0 ? 0 : this.#ends[number - 1]!;
  }

  #isToken(number: number, { units, length }: TokenReader): boolean {
    const start = this.#start(number);
    if (this.#ends[number]! - start !== length) return false;
    for (let index = 0; index < length; index++) if (this.#units[start + index] !== units[index]) return false;
    return true;
  }

  #store({ units, length, hash }: TokenReader, number: number): void {
    const start = this.#start(number);
    if (number === this.#ends.length) {
      this.#ends = widened(this.#ends, 2 * number);
      this.#hashes = widened(this.#hashes, 2 * number);
    }
    if (start + length > this.#units.length) this.#units = widened(this.#units, 2 * (start + length));
    for (let index = 0; index < length; index++) this.#units[start + index] = units[index]!;
    this.#ends[number] = start + length;
    this.#hashes[number] = hash;
  }

  #widen(): void {
    this.#table = new Uint32Array(2 * this.#table.length);
    const mask = this.#table.length - 1;
    for (let number = 0; number < this.size; number++) {
      let place = this.#hashes[number]! & mask;
      while (this.#table[place]! > 0) place = (place + 1) & mask;
      this.#table[place] = number + 1;
    }
  }
}

/** A copy with room for more. */
export function widened<T extends Uint16Array | Uint32Array | Int32Array>(from: T, length: number): T {
  const to = new (from.constructor as new (length: number) => T)(length);
  to.set(from);
  return to;
}
