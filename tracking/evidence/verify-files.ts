/** @file Reads the stored results of a run again and compares them with their manifests. */

import type { Store } from '../../store/index.ts';
import type { Bundle } from './bundle.ts';
import type { Verdict } from './verify.ts';

export async function verifyFiles({ evidence }: Bundle, store: Pick<Store, 'lookup' | 'artifacts'>): Promise<Verdict> {
  const verdict: Verdict = { checked: { files: 0 }, mismatches: [] };
  for (const { node, key } of evidence.results) {
    const artifact = await store.lookup(key);
    const damages = artifact ? await store.artifacts.verify(artifact) : [{ file: 'manifest.json', problem: 'missing' }];
    verdict.checked['files']! += Object.keys(artifact?.manifest.files ?? {}).length;
    for (const { file, problem } of damages) {
      verdict.mismatches.push({ check: 'files', subject: node, message: `${file} is ${problem}` });
    }
  }
  return verdict;
}
