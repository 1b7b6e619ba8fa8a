/**
 * @file Tokenizers of llama2.c (`tokenizer.py`): the longest token's length, then score (float32), length (int32) and
 * bytes of each. Pieces of SentencePiece, with its spaces and marks written in other ways.
 */

import { readFile } from 'node:fs/promises';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { sentencePieceDefinition, type ScoredToken, type TokenizerDefinition } from '../tokenizer/definitions.ts';

/** Tokens that the exporter always puts first, and what it writes for the second and third. */
const marks = ['<unk>', '<s>', '</s>'];
const bosId = 1;
const eosId = 2;

function parseTokens(file: string, bytes: Buffer): ScoredToken[] {
  const tokens: ScoredToken[] = [];
  let offset = 4;
  while (offset < bytes.length) {
    const length = offset + 8 <= bytes.length ? bytes.readInt32LE(offset + 4) : -1;
    const end = offset + 8 + length;
    if (length < 0 || end > bytes.length) {
      throw new EpsilonflowError('MODEL_INVALID', `${file} is no tokenizer of llama2.c, or is cut off.`, {
        hint: 'Fetch the file again, or export the tokenizer anew.',
      });
    }
    const id = tokens.length;
    const text = bytes.toString('utf8', offset + 8, end);
    const score = bytes.readFloatLE(offset);
    const isByte = /^<0x[0-9A-F]{2}>$/.test(text);
    const kind = id === 0 ? 'unknown' : id < marks.length ? 'control' : isByte ? 'byte' : 'normal';
    tokens.push({ text: marks[id] ?? text.replaceAll(' ', '▁'), score, kind });
    offset = end;
  }
  return tokens;
}

/** @throws EpsilonflowError MODEL_MISSING, MODEL_INVALID */
export async function readLlama2cTokenizer(file: string): Promise<TokenizerDefinition> {
  const bytes = await readFile(file).catch((cause: unknown) => {
    throw new EpsilonflowError('MODEL_MISSING', `The tokenizer ${file} cannot be read.`, {
      hint: 'Put the tokenizer.bin that llama2.c wrote for the model beside it.',
      cause,
    });
  });
  return sentencePieceDefinition(parseTokens(file, bytes), true, { bos: bosId, eos: eosId });
}
