/** @file Gathers the evidence of a run, or of what is released of it, from run folder, store and ledger. */

import { readFileSync } from 'node:fs';

import type { Ledger } from '../../privacy/ledger/index.ts';
import type { OpenedArtifact } from '../../schemas/artifact.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import type { Plan, PlanNode } from '../../schemas/plan.ts';
import type { Store } from '../../store/index.ts';
import { mayLeave } from '../door.ts';
import { programVersion } from '../program-version.ts';
import { collectArtifacts } from '../results.ts';
import { specCopy, type RunFolder } from '../runs.ts';
import { privacyStatement, type PrivacyStatement } from '../statement.ts';
import { bundleVersion, type Bundle, type Evidence, type ResultEvidence } from './bundle.ts';
import { ownEntries } from './statement-entries.ts';

export interface RunSources {
  run: RunFolder;
  plan: Plan;
  ledger: Pick<Ledger, 'rowsBehind' | 'identity' | 'head'>;
}

export interface EvidenceSources extends RunSources {
  store: Pick<Store, 'lookup'>;
}

/** @throws EpsilonflowError INPUT_MISSING when the run's copy of its spec is gone */
export async function gatherEvidence(sources: EvidenceSources): Promise<Bundle> {
  const { run, plan, store } = sources;
  const { run: summary, artifacts } = await collectArtifacts(run.directory, plan, store);
  const completed = [...summary.nodes].flatMap(([node, { status, key }]) =>
    status === 'completed' ? [{ node, key }] : [],
  );
  const results = plan.nodes.flatMap((node) => {
    const artifact = artifacts.get(node.id);
    return artifact ? [resultOf(node, artifact)] : [];
  });
  const statement = privacyStatement(plan, null, ownEntries(results));
  return bundleOf(sources, { released: null, completed, results, statement });
}

/**
 * Evidence for what a released folder holds: its own results and the ledger's rows behind them. What the run made
 * besides, and results that those were made from, need not be there any more.
 *
 * @param released the instance that is released, and others whose files lie beside it
 * @throws EpsilonflowError INPUT_MISSING
 */
export async function gatherReleaseEvidence(
  sources: RunSources,
  released: readonly { node: PlanNode; artifact: OpenedArtifact }[],
  statement: PrivacyStatement,
): Promise<Bundle> {
  const results = released.map(({ node, artifact }) => resultOf(node, artifact));
  const completed = results.map(({ node, key }) => ({ node, key }));
  return bundleOf(sources, { released: completed.map(({ node }) => node), completed, results, statement });
}

function resultOf(node: PlanNode, { manifest }: OpenedArtifact): ResultEvidence {
  const { files, privacy, paidBy = [], charges = [] } = manifest;
  const digests = Object.fromEntries(Object.entries(files).map(([file, { sha256 }]) => [file, sha256]));
  const { id, key, label } = node;
  const done = charges.map(({ workflowId: _, ...charge }) => charge);
  return { node: id, key, label, privacy, paidBy, charges: done, files: mayLeave(node) ? digests : null };
}

async function bundleOf(
  { run, plan, ledger }: RunSources,
  found: Pick<Evidence, 'released' | 'completed' | 'results' | 'statement'>,
): Promise<Bundle> {
  const { specFile: _, ...record } = run.record;
  const paidBy = [...new Set(found.results.flatMap((result) => result.paidBy))];
  const rows = await ledger.rowsBehind(record.workflowId, paidBy);
  const ledgerEvidence = { identity: await ledger.identity(), head: await ledger.head(), rows };
  return {
    evidence: { bundleVersion, madeBy: programVersion(), run: record, ledger: ledgerEvidence, ...found },
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
