/** Splitting running English text into sentences, the same on every version of Node (no ICU data is involved). */

const abbreviations = new Set(
  (
    'mr mrs ms messrs dr st rev hon gen col maj capt lt sgt gov sen rep pres prof esq jr sr ' +
    'no nos vol p pp fig figs art sec jan feb mar apr jun jul aug sept sep oct nov dec inst ult viz vs etc al cf ' +
    'co inc ltd corp dept mass conn penn ky tenn va md pa ill ind wis minn mo ark ala fla ga'
  ).split(' '),
);

/** A full stop that may end a sentence, its closing quotes, and the white space before the next opening. */
const boundary = /([.!?]+["'”’)\]]*)\s+(?=["'“‘(\[]?[A-Z0-9])/g;

/** The sentences of `text`, in order, trimmed, inner white space collapsed. Never empty strings. */
export function splitSentences(text: string): string[] {
  const flat = text.replace(/\s+/g, ' ').trim();
  const sentences: string[] = [];
  let start = 0;
  for (const match of flat.matchAll(boundary)) {
    const end = match.index + match[1]!.length;
    if (match[1]!.startsWith('.') && isAbbreviation(flat.slice(start, match.index))) continue;
    sentences.push(flat.slice(start, end).trim());
    start = end;
  }
  sentences.push(flat.slice(start).trim());
  return sentences.filter((sentence) => sentence !== '');
}

/** Whether the full stop after `before` belongs to a title, an initial or `U.S.` rather than ending a sentence. */
function isAbbreviation(before: string): boolean {
  const word = /([A-Za-z.]+)$/.exec(before)?.[1];
  if (word === undefined) return false;
  return /^[A-Z]$/.test(word) || /^([A-Za-z]\.)+[A-Za-z]$/.test(word) || abbreviations.has(word.toLowerCase());
}

/** Typographic quotes, dashes and odd spaces as plain ASCII; other non-ASCII letters keep their base letter. */
export function plainText(text: string): string {
  return text
    .replace(/[‘’‚‛`´]/g, "'")
    .replace(/[“”„‟«»]/g, '"')
    .replace(/[–—―]/g, '-')
    .replace(/…/g, '...')
    .normalize('NFKD')
    .replace(/[\u0300-\u036f]/g, '')
    .replace(/[^\x20-\x7e]+/g, ' ')
    .replace(/\s+/g, ' ')
    .trim();
}

/** What two texts have in common when they are the same sentence: letters and digits only, lower case. */
export function comparable(text: string): string {
  return plainText(text)
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, ' ')
    .trim();
}
