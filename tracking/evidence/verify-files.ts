/** @file Reads the stored results of a run again and compares them with their manifests. */

import type { Store } from '../../store/index.ts';
import type { Bundle } from './bundle.ts';
import type { Verdict } from './verify.ts';

export async function verifyFiles({ evidence }: Bundle, store: Pick<Store, 'lookup' | 'artifacts'>): Promise<Verdict> {
  const verdict: Verdict = { checked: { files: 0 }, mismatches: [] };
  for (const { node, key } of evidence.results) {
    const damages = (await store.artifacts.damagesOf(key)) ?? [{ file: 'manifest.json', problem: 'missing' }];
    const artifact = await store.lookup(key);
    verdict.checked['files']! += Object.keys(artifact?.manifest.files ?? damages).length;
    for (const { file, problem } of damages) {
      verdict.mismatches.push({ check: 'files', subject: node, message: `${file} is ${problem}` });
    }
  }
  return verdict;
}
