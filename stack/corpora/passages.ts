/** From documents of any kind to passages of 50 to 600 characters of plain, lower-case prose. */

import { plainText, splitSentences } from '../demo-data/sentences.ts';

const shortest = 50;
const longest = 600;
/** Passages are closed at these lengths in turn, so that the model sees single sentences as well as paragraphs. */
const targets = [60, 150, 300, 500];

/** Old books and film reviews hold words that no demonstration should print. */
const slurs = /\b(nigg(er|a)s?|fagg?ots?|kikes?|spics?|chinks?|cunts?|retards?|rap(e|ed|es|ist|ists|ing)|porno?)\b/;

/** Undoes the spacing of tokenised text: `word , word` and `( word )`, the double quotes of Brown, `@-@` of wikitext. */
export function detokenise(text: string): string {
  return text
    .replace(/ @([-.,])@ /g, '$1')
    .replace(/``|''/g, '"')
    .replace(/ ([,.;:!?%)\]]|'(?:s|re|ve|ll|d|m|t)\b|n't\b)/g, '$1')
    .replace(/([([$]) /g, '$1')
    .replace(/(^|\s)" ([^"]*?) "(?=[\s.,;:!?]|$)/g, '$1"$2"');
}

/** Cuts the paragraphs of one document into passages; the order is kept and none crosses a document's end. */
export function passages(paragraphs: Iterable<string>): string[] {
  const result: string[] = [];
  let open = '';
  const close = (): void => {
    if (open.length >= shortest) result.push(open);
    open = '';
  };
  for (const paragraph of paragraphs) {
    for (const sentence of splitSentences(plainText(paragraph)).map((text) => text.toLowerCase())) {
      if (!isProse(sentence)) {
        close();
        continue;
      }
      if (open.length + 1 + sentence.length > longest) close();
      open = open === '' ? sentence : `${open} ${sentence}`;
      if (open.length >= targets[result.length % targets.length]!) close();
    }
  }
  close();
  return result.filter((passage) => passage.length <= longest && !slurs.test(passage));
}

/** Whether a sentence is made of words: no tables, headings, markup, lists of numbers or shouting of symbols. */
function isProse(sentence: string): boolean {
  if (sentence.length > longest || /<unk>|[{}<>|\\^~]|__|={2}|\*{2}|https?:|www\.|@/.test(sentence)) return false;
  const letters = sentence.replace(/[^a-z]/g, '').length;
  const digits = sentence.replace(/[^0-9]/g, '').length;
  return letters >= 0.72 * sentence.length && digits <= 0.06 * sentence.length && /[.!?]["')\]]*$/.test(sentence);
}
