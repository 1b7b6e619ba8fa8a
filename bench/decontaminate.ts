/**
 * @file How long the search for common runs takes, and how much memory: a corpus of 80 MB against datasets of 20 MB, made
 * up, with passages of the one in the other. Times are those of the processor, so that they don't depend on what else
 * the machine does. The peer looks for common stretches of bytes, by a suffix array too, in a fifth of the text.
 */

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { packageRoot } from '../stack/paths.ts';
import type { Bench, MeasureOptions } from './bench-case.ts';
import type { Searched } from './decontaminate-process.ts';
import { PeerProcess } from './peer-process.ts';

const megabytes = { whole: 100, quick: 10, peer: 20 } as const;

const aim = { seconds: 120, bytesOfByte: 12 } as const;

/** About as long as 50 words. */
const bytesOfRun = 250;

async function ours(size: number, folder?: string): Promise<string> {
  const script = join(packageRoot, 'bench', 'decontaminate-process.ts');
  const args = ['--import', 'tsx', script, String(size), ...(folder === undefined ? [] : [folder])];
  return (await promisify(execFile)(process.execPath, args, { cwd: packageRoot })).stdout;
}

async function search(size: number, say: MeasureOptions['say']): Promise<Searched> {
  const searched = JSON.parse(await ours(size)) as Searched;
  const { seconds, peak, bytes, spans } = searched;
  say(
    `  ${(bytes / 1e6).toFixed(0)} MB: ${seconds.toFixed(1)} s, ${(peak / bytes).toFixed(1)} bytes a byte, ${spans} spans`,
  );
  return searched;
}

async function againstPeer({ say }: MeasureOptions): Promise<{ ours: number; peer: number }> {
  const folder = mkdtempSync(join(tmpdir(), 'decontaminate-bench-'));
  const script = 'decontaminate-peer.py';
  const peer = await PeerProcess.start<{ seconds: number; peak: number; found: number }>(
    { environment: 'suffix-arrays', pins: ['pydivsufsort==0.0.20'], script },
    say,
  );
  try {
    await ours(megabytes.peer, folder);
    const { seconds, peak, found } = await peer.ask({ folder, bytes: bytesOfRun });
    say(
      `  pydivsufsort: ${seconds.toFixed(1)} s, ${(peak / megabytes.peer / 1e6).toFixed(1)} bytes a byte, ${found} places`,
    );
    return { ours: (await search(megabytes.peer, say)).seconds, peer: seconds };
  } finally {
    await peer.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

let measured: Promise<Searched> | undefined;

/** Both figures of the whole text come from one search. */
const whole = ({ quick, say }: MeasureOptions): Promise<Searched> =>
  (measured ??= search(quick ? megabytes.quick : megabytes.whole, say));

export const decontaminate: Bench = {
  name: 'decontaminate',
  cases: [
    {
      ...{ name: 'time-100-mb', unit: 's', better: 'less', peerName: 'the aim of 2 minutes', goal: 1 },
      measure: async (options) => ({ ours: (await whole(options)).seconds, peer: aim.seconds }),
    },
    {
      ...{ name: 'memory-100-mb', unit: 'bytes a byte', better: 'less', peerName: 'the aim of 12', goal: 1 },
      async measure(options) {
        const { peak, bytes } = await whole(options);
        return { ours: peak / bytes, peer: aim.bytesOfByte };
      },
    },
    {
      ...{ name: 'time-20-mb', unit: 's', better: 'less', peerName: 'pydivsufsort', goal: null },
      measure: againstPeer,
    },
  ],
};
