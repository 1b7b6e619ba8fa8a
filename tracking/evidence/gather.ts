/** @file Gathers the evidence of a run from run folder, store and ledger. */

import { readFileSync } from 'node:fs';

import type { Ledger } from '../../privacy/ledger/index.ts';
import { accountOf } from '../../schemas/charges.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import type { Plan } from '../../schemas/plan.ts';
import type { Store } from '../../store/index.ts';
import { mayLeave } from '../door.ts';
import { collectArtifacts } from '../results.ts';
import { specCopy, type RunFolder } from '../runs.ts';
import { privacyStatement } from '../statement.ts';
import { bundleVersion, type Bundle, type ResultEvidence } from './bundle.ts';

export interface EvidenceSources {
  run: RunFolder;
  plan: Plan;
  store: Pick<Store, 'lookup'>;
  ledger: Pick<Ledger, 'rowsBehind' | 'identity' | 'head'>;
}

/** @throws EpsilonflowError INPUT_MISSING when the run's copy of its spec is gone */
export async function gatherEvidence({ run, plan, store, ledger }: EvidenceSources): Promise<Bundle> {
  const { specFile: _, ...record } = run.record;
  const { run: summary, artifacts } = await collectArtifacts(run.directory, plan, store);
  const completed = [...summary.nodes].flatMap(([node, { status, key }]) =>
    status === 'completed' ? [{ node, key }] : [],
  );
  const results = plan.nodes.flatMap((node): ResultEvidence[] => {
    const artifact = artifacts.get(node.id);
    if (!artifact) return [];
    const { files, privacy, paidBy = [], charges = [] } = artifact.manifest;
    const digests = Object.fromEntries(Object.entries(files).map(([file, { sha256 }]) => [file, sha256]));
    const { id, key, label } = node;
    const done = charges.map(({ workflowId: _, ...charge }) => charge);
    return [{ node: id, key, label, privacy, paidBy, charges: done, files: mayLeave(node) ? digests : null }];
  });
  const paidBy = [...new Set(results.flatMap((result) => result.paidBy))];
  const rows = await ledger.rowsBehind(record.workflowId, paidBy);
  const byNode = new Map(results.map((result) => [result.node, result]));
  const statement = privacyStatement(
    plan,
    null,
    (node, charge) =>
      byNode
        .get(node.id)
        ?.charges.find(
          ({ dataset, mechanismDigest }) => dataset === accountOf(charge) && mechanismDigest === charge.digest,
        )?.entryId ?? null,
  );
  const ledgerEvidence = { identity: await ledger.identity(), head: await ledger.head(), rows };
  return {
    evidence: { bundleVersion, run: record, ledger: ledgerEvidence, completed, results, statement },
    plan,
    spec: readSpecCopy(run),
  };
}

function readSpecCopy({ directory }: RunFolder): string {
  try {
    return readFileSync(specCopy(directory), 'utf8');
  } catch (cause) {
    throw new EpsilonflowError('INPUT_MISSING', `The run's copy of its spec is not there: ${specCopy(directory)}.`, {
      hint: 'Put back what the run folder held; a run that is started again has a copy of its own.',
      cause,
    });
  }
}
