/** @file `epsilonflow verify`: recomputes every epsilon of a run, a bundle or a release, and fails on any mismatch. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';

import type { Command } from 'commander';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Bundle } from '../tracking/evidence/bundle.ts';
import type { Verdict } from '../tracking/evidence/verify.ts';
import { describeLoss } from '../tracking/wording.ts';
import { withRun } from './open-run.ts';
import { action, exitCodes, printJson, printLine, styled } from './output.ts';

async function verify(subject: string, { json }: { json?: boolean }): Promise<number> {
  const { verifyEvidence } = await import('../tracking/evidence/verify.ts');
  const { lossesIn } = await import('../tracking/evidence/verify-entries.ts');
  const { evidenceFolder, readBundle } = await import('../tracking/evidence/bundle.ts');
  const released = join(subject, evidenceFolder);
  let bundle: Bundle;
  let files: Verdict = { checked: {}, mismatches: [] };
  if (existsSync(join(released, 'evidence.json'))) {
    const { verifyRelease } = await import('../tracking/evidence/verify-release.ts');
    bundle = readBundle(released);
    files = await verifyRelease(subject, bundle);
  } else if (existsSync(join(subject, 'evidence.json'))) {
    bundle = readBundle(subject);
    if (bundle.evidence.released !== null) throw partOfRelease(subject, evidenceFolder);
  } else {
    const { gatherEvidence } = await import('../tracking/evidence/gather.ts');
    const { verifyFiles } = await import('../tracking/evidence/verify-files.ts');
    const gathered = await withRun(subject, async (opened) => {
      const evidence = await gatherEvidence(opened);
      return { evidence, files: await verifyFiles(evidence, opened.store) };
    });
    bundle = gathered.evidence;
    files = gathered.files;
  }
  const { checked, mismatches } = await verifyEvidence(bundle);
  const verdict = { checked: sumOf(checked, files.checked), mismatches: [...mismatches, ...files.mismatches] };
  const { evidence, plan } = bundle;
  const losses = lossesIn(evidence.ledger);
  const run = `${evidence.run.name}/${evidence.run.number}`;
  const code = verdict.mismatches.length === 0 ? exitCodes.fine : exitCodes.failed;
  if (json) {
    printJson({ run, planDigest: plan.digest, ...verdict, losses });
    return code;
  }
  for (const { check, subject: where, message } of verdict.mismatches) {
    printLine(`${styled('red', 'mismatch')} ${check}: ${where}: ${message}`);
  }
  for (const loss of losses) printLine(styled('yellow', describeLoss(loss)));
  const counts = Object.entries(verdict.checked).map(([check, count]) => `${check} ${count}`);
  const head = `ledger ${evidence.ledger.identity.slice(0, 8)} at row ${evidence.ledger.head.sequence}`;
  printLine(
    code === exitCodes.fine
      ? `${styled('green', 'verified')} ${run}: all comparisons hold (${counts.join(', ')}); ${head}`
      : `${run}: ${verdict.mismatches.length} mismatches (of ${counts.join(', ')})`,
  );
  return code;
}

/** Evidence about a released folder shows nothing of the folder's files: the whole folder must be there to compare. */
const partOfRelease = (subject: string, evidenceFolder: string): EpsilonflowError =>
  new EpsilonflowError('BUNDLE_INVALID', `${subject} holds the evidence of a released folder without that folder.`, {
    hint: `Give verify the released folder itself, which has this in its folder ${evidenceFolder}.`,
  });

/** Of the same checks in two places. */
function sumOf(a: Verdict['checked'], b: Verdict['checked']): Verdict['checked'] {
  const sum = { ...a };
  for (const [check, count] of Object.entries(b)) sum[check] = (sum[check] ?? 0) + count;
  return sum;
}

export function verifyCommand(program: Command): void {
  program
    .command('verify')
    .description(
      'Recompute every epsilon of a run, an exported bundle or a released folder, and compare all that was recorded.',
    )
    .argument('<run-or-folder>', 'NAME/NUMBER, NAME, latest, or the folder of a bundle or of a release')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      '\nA bundle is checked against itself, offline: spec to plan, mechanisms to epsilons, ledger rows to their hashes, ' +
        'proofs to\nreservations, results to what paid for them. Of a run the stored files are read again too, of a ' +
        'released folder its own. ' +
        'Exit code 1 on any mismatch.\n\nExamples:\n  epsilonflow verify latest\n  epsilonflow verify evidence/quickstart',
    )
    .action(action(verify));
}
