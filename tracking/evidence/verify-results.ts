/** @file Checks the results of a bundle: that all are there, and that each rests on just what the plan charges for it. */

import { proofDifference } from '../../privacy/ledger/index.ts';
import { canonicalJson } from '../../schemas/canonical-json.ts';
import { chargeName, chargeNameOf, chargesOf } from '../../schemas/charges.ts';
import { lineageOf } from '../../schemas/lineage.ts';
import type { Mechanism, NodeCharge, Plan, PlanNode } from '../../schemas/plan.ts';
import type { Bundle, ResultEvidence } from './bundle.ts';
import type { Findings } from './findings.ts';
import { chargeDifference, type EntryEvidence, type LedgerEvidence } from './verify-entries.ts';

export function checkResults({ evidence, plan }: Bundle, ledger: LedgerEvidence, findings: Findings): void {
  const { run, results } = evidence;
  findings.add('result', run.name, results.length > 0 ? null : 'it has no results, and so shows nothing');
  findings.within('result', run.name, () => checkAllThere({ evidence, plan }, ledger, findings));
  for (const result of results) {
    findings.within('result', String(result?.node), () => checkResult(plan, result, ledger, findings));
  }
}

/** Whatever was finished or paid for must be there; of a release, what it holds. */
function checkAllThere(
  { evidence, plan }: Pick<Bundle, 'evidence' | 'plan'>,
  ledger: LedgerEvidence,
  findings: Findings,
) {
  const { completed, results } = evidence;
  const keys = new Map(results.map(({ node, key }) => [node, key]));
  for (const { node, key } of completed) {
    const found = keys.get(node);
    findings.add(
      'result',
      node,
      found === undefined
        ? 'it was completed, but the store has no whole result of it: something is missing or cut'
        : found === key
          ? null
          : 'its result is of another content key than the one that was completed',
    );
  }
  if (evidence.released !== null) return;
  const stored = new Set(keys.values());
  for (const [id, entry] of ledger.entries) {
    if (!entry.isOwn || !entry.committed) continue;
    const difference = stored.has(entry.node_key) ? null : `entry ${id.slice(0, 12)} paid for it, but it has no result`;
    const node = plan.nodes.find(({ key }) => key === entry.node_key);
    findings.add('result', node?.id ?? entry.node_key.slice(0, 12), difference);
  }
}

/** A result must rest on committed entries for just the charges that the plan names behind it. */
function checkResult(plan: Plan, result: ResultEvidence, ledger: LedgerEvidence, findings: Findings): void {
  const { node: id, key, label, paidBy } = result;
  const node = lineageOf(plan).node(id);
  if (!node || node.key !== key || node.label !== label) {
    findings.add('result', id, 'the plan has no such node with this key and label');
    return;
  }
  const behind = chargesBehind(plan, node);
  const paid = new Set<string>();
  for (const entryId of paidBy) {
    const entry = ledger.entries.get(entryId);
    if (entry) paid.add(nameOf(entry));
    findings.compare('result', id, () => {
      if (!entry?.committed) return `the ledger's rows hold no committed entry ${entryId.slice(0, 12)}`;
      const planned = behind.get(nameOf(entry));
      const difference = planned ? chargeDifference(plan, planned, entry, ledger.accounts) : 'was not charged for it';
      return difference && `entry ${entryId.slice(0, 12)} ${difference}`;
    });
  }
  const missing = [...behind.keys()].filter((name) => !paid.has(name));
  findings.add('result', id, missing.length === 0 ? null : `${missing.length} of the charges behind it were not paid`);
  findings.compare('result', id, () => statedDifference(plan, node, result.privacy, behind.size));
  checkOwnCharges(node, result, ledger, findings);
}

/** What its own step did is what its own entries were committed with, for each charge of the step and no other. */
function checkOwnCharges(node: PlanNode, result: ResultEvidence, { entries }: LedgerEvidence, findings: Findings) {
  const { charges, paidBy } = result;
  const own = chargesOf(node);
  findings.add(
    'result',
    node.id,
    charges.length === own.length ? null : `its manifest has ${charges.length} charges, the plan ${own.length}`,
  );
  for (const charge of own) {
    findings.compare('proof', node.id, () => {
      const done = charges.find(({ mechanismDigest }) => mechanismDigest === charge.digest);
      if (!done) return `its manifest has no charge for the mechanism ${charge.digest.slice(0, 12)}`;
      const entry = entries.get(done.entryId);
      if (!entry) return 'its entry is not in the rows';
      if (!paidBy.includes(done.entryId) || nameOf(entry) !== chargeNameOf(node, charge)) return 'its entry is another';
      const difference = proofDifference(JSON.parse(entry.mechanism) as Mechanism, done.proof);
      return (
        difference ?? (canonicalJson(done.proof) === entry.proof ? null : 'it is not the proof that was committed')
      );
    });
  }
}

/**
 * What the manifest says of the mechanisms behind a result is what the plan says, in whatever order and under whatever
 * names of datasets: another plan may have made it.
 */
function statedDifference(plan: Plan, node: PlanNode, stated: readonly NodeCharge[], least: number): string | null {
  const told = ({ digest, epsilon, targetEpsilon, delta, mechanism }: NodeCharge): string =>
    canonicalJson({ digest, epsilon, targetEpsilon, delta, mechanism });
  const planned = new Set(
    lineageOf(plan)
      .privacyBehind(node.id)
      .map(({ privacy }) => told(privacy)),
  );
  const found = stated.map(told);
  const same = found.length >= least && found.every((one) => planned.has(one)) && new Set(found).size === planned.size;
  return same ? null : 'its manifest tells of other mechanisms behind it than the plan';
}

const nameOf = (entry: EntryEvidence): string =>
  chargeName({ nodeKey: entry.node_key, mechanismDigest: entry.mechanism_digest });

function chargesBehind(plan: Plan, node: PlanNode): Map<string, NodeCharge> {
  const found = new Map<string, NodeCharge>();
  for (const { node: behind, privacy } of lineageOf(plan).privacyBehind(node.id)) {
    found.set(chargeNameOf(behind, privacy), privacy);
  }
  return found;
}

/** What the run reserved must be of its plan: nothing was spent under its name that the plan does not show. */
export function checkAllCharged({ plan }: Bundle, ledger: LedgerEvidence, findings: Findings): void {
  const planned = new Map(
    plan.nodes.flatMap((node) => chargesOf(node).map((charge) => [chargeNameOf(node, charge), charge] as const)),
  );
  for (const [id, entry] of ledger.entries) {
    if (!entry.isOwn) continue;
    const charge = planned.get(nameOf(entry));
    findings.compare('ledger', `entry ${id.slice(0, 12)}`, () =>
      charge ? chargeDifference(plan, charge, entry, ledger.accounts) : 'its mechanism is not in the plan',
    );
  }
}
