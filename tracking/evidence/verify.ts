/**
 * @file Recomputes the evidence of a run: the plan from the spec, every epsilon from its mechanism, every charge from the
 * ledger's rows and proofs, the statement from the plan. Needs neither data nor ledger nor network. Reports what differs.
 */

import { isDeepStrictEqual } from 'node:util';

import { compile, planDigest, sealMechanism, type CompileHost } from '../../compiler/index.ts';
import { composedEpsilon } from '../../privacy/accounting/index.ts';
import { calibrateNoiseMultiplier } from '../../privacy/calibration.ts';
import { followChain, mechanismEvent, proofDifference, type ChainedRow } from '../../privacy/ledger/index.ts';
import type { MechanismProof } from '../../schemas/artifact.ts';
import { accountOf, chargeName, chargeNameOf, chargesOf } from '../../schemas/charges.ts';
import { SpecFaults } from '../../schemas/errors.ts';
import { lineageOf } from '../../schemas/lineage.ts';
import type { Mechanism, NodeCharge, Plan, PlanNode } from '../../schemas/plan.ts';
import { privacyStatement } from '../statement.ts';
import type { Bundle, ResultEvidence } from './bundle.ts';

export interface Mismatch {
  /** What was checked: `spec`, `plan`, `epsilon`, `account`, `ledger`, `proof`, `result`, `statement`, `files`. */
  check: string;
  /** Node, account or row. */
  subject: string;
  message: string;
}

export interface Verdict {
  /** Number of comparisons by check. */
  checked: Record<string, number>;
  mismatches: Mismatch[];
}

/** Agreement of two evaluations of one formula, which other processors may round otherwise. */
const close = (a: number, b: number): boolean => Math.abs(a - b) <= 1e-9 * Math.max(1, Math.abs(a), Math.abs(b));

/** Checks a bundle against itself. Linear in nodes and rows but for one accounting of each different mechanism. */
export async function verifyEvidence(bundle: Bundle): Promise<Verdict> {
  const findings = new Findings();
  await checkSpec(bundle, findings);
  checkPlan(bundle.plan, findings);
  const entries = checkRows(bundle, findings);
  for (const result of bundle.evidence.results) checkResult(bundle.plan, result, entries, findings);
  checkAllCharged(bundle, entries, findings);
  checkStatement(bundle, findings);
  return { checked: findings.checked, mismatches: findings.mismatches };
}

class Findings {
  readonly checked: Record<string, number> = {};
  readonly mismatches: Mismatch[] = [];

  /** Counts a comparison; `difference` says what is wrong, null that nothing is. */
  add(check: string, subject: string, difference: string | null): void {
    this.checked[check] = (this.checked[check] ?? 0) + 1;
    if (difference !== null) this.mismatches.push({ check, subject, message: difference });
  }
}

/** Compiles the spec again, with what the plan says of data and models in place of the files. */
async function checkSpec({ spec, plan }: Bundle, findings: Findings): Promise<void> {
  const models = new Map(Object.values(plan.models).map(({ path, digest }) => [path, digest]));
  const host: CompileHost = {
    readSpec: () => Promise.resolve(spec),
    inspectDataset: ({ name }) => {
      const { digest = 'unused', privacy = null } = plan.datasets[name] ?? {};
      return Promise.resolve({ faults: [], digest, trainRecords: privacy?.size ?? null });
    },
    modelDigest: (path) => Promise.resolve(models.get(path) ?? 'unused'),
    calibrate: calibrateNoiseMultiplier,
    compose: composedEpsilon,
    cached: null,
    accounts: null,
  };
  let difference: string | null;
  try {
    const { plan: again } = await compile({ file: plan.spec.file, profile: plan.spec.profile ?? undefined }, host);
    difference = again.digest === plan.digest ? null : `compiles to another plan (${again.digest.slice(0, 12)})`;
  } catch (error) {
    const faults = error instanceof SpecFaults ? error.faults : [error as Error];
    difference = `does not compile: ${faults.map(({ message }) => message).join('; ')}`;
  }
  findings.add('spec', plan.name, difference);
}

function checkPlan(plan: Plan, findings: Findings): void {
  const digest = planDigest(plan);
  findings.add('plan', plan.name, digest === plan.digest ? null : `its digest is ${digest}, not ${plan.digest}`);
  const known = new Map<string, string | null>();
  for (const node of plan.nodes) {
    for (const charge of chargesOf(node)) {
      const sealed = sealMechanism(plan.datasets[charge.dataset]!, charge.mechanism);
      findings.add('plan', node.id, sealed === charge.digest ? null : 'the digest of its mechanism is another');
      const { mechanism, delta, epsilon, targetEpsilon } = charge;
      const query = JSON.stringify([mechanism, delta, epsilon, targetEpsilon]);
      if (!known.has(query)) known.set(query, epsilonDifference(charge));
      findings.add('epsilon', node.id, known.get(query)!);
    }
  }
  for (const [account, { experiment, delta }] of Object.entries(plan.privacy)) {
    const events = chargesTo(plan, account).flatMap(({ mechanism }) => mechanismEvent(mechanism) ?? []);
    const again = events.length === 0 ? 0 : composedEpsilon(events, delta).epsilon;
    findings.add('account', account, close(again, experiment) ? null : `epsilon ${again}, not ${experiment}`);
  }
}

/** What is wrong with the epsilon that is stated of a mechanism; it may not be above its target either. */
function epsilonDifference({ mechanism, delta, epsilon, targetEpsilon }: NodeCharge): string | null {
  const event = mechanismEvent(mechanism);
  if (event === null || epsilon === null) return event === null && epsilon === null ? null : 'is bounded or it is not';
  if (targetEpsilon === 'inf' || epsilon > targetEpsilon) return `epsilon ${epsilon} is above ${targetEpsilon}`;
  // Pure mechanisms state their epsilon where that is below the composed figure.
  const computed = composedEpsilon([event], delta).epsilon;
  const again = mechanism.kind === 'discrete-laplace' ? Math.min(computed, targetEpsilon) : computed;
  return close(again, epsilon) ? null : `epsilon ${again}, not ${epsilon}`;
}

/** Charges to an account; two nodes of one content key are one result, charged once. */
function chargesTo(plan: Plan, account: string): NodeCharge[] {
  const byName = new Map<string, NodeCharge>();
  for (const node of plan.nodes) {
    for (const charge of chargesOf(node)) {
      if (accountOf(charge) === account) byName.set(chargeNameOf(node, charge), charge);
    }
  }
  return [...byName.values()];
}

/** A ledger entry, as its rows tell of it. */
interface EntryEvidence {
  account: string;
  workflowId: string;
  nodeKey: string;
  mechanism: Mechanism;
  mechanismDigest: string;
  committed: boolean;
}

interface Payload {
  workflowId?: string;
  nodeKey?: string;
  mechanism?: Mechanism;
  mechanismDigest?: string;
  proof?: MechanismProof | null;
}

function checkRows({ evidence }: Bundle, findings: Findings): Map<string, EntryEvidence> {
  const { rows, head } = evidence.ledger;
  const entries = new Map<string, EntryEvidence>();
  let before: ChainedRow | null = null;
  for (const row of rows) {
    const isNext = before !== null && row.sequence === before.sequence + 1;
    const order =
      (before !== null && row.sequence <= before.sequence) || row.sequence > head.sequence
        ? `row ${row.sequence} is out of order`
        : isNext && row.previousHash !== before!.hash
          ? `row ${row.sequence} does not follow the row before it`
          : row.sequence === head.sequence && row.hash !== head.hash
            ? `row ${row.sequence} is not the head that was recorded`
            : null;
    findings.add('ledger', `row ${row.sequence}`, order ?? alteration(row));
    before = row;
    readEntry(row, entries, findings);
  }
  return entries;
}

/** Each row bears its own hash, also where the row before it is not at hand. */
function alteration(row: ChainedRow): string | null {
  const followed = followChain({ sequence: row.sequence - 1, hash: row.previousHash }, row);
  return typeof followed === 'string' ? followed : null;
}

function readEntry(row: ChainedRow, entries: Map<string, EntryEvidence>, findings: Findings): void {
  if (row.entryId === null) return;
  const payload = JSON.parse(row.payload) as Payload;
  const known = entries.get(row.entryId);
  if (row.kind === 'reserved') {
    const { workflowId = '', nodeKey = '', mechanism, mechanismDigest = '' } = payload;
    const entry = { workflowId, nodeKey, mechanism: mechanism!, mechanismDigest, committed: false };
    if (!known) entries.set(row.entryId, { account: row.account, ...entry });
    return;
  }
  if (row.kind !== 'committed') return;
  const difference = known ? proofDifference(known.mechanism, payload.proof ?? null) : 'nothing was reserved for it';
  findings.add('proof', row.entryId.slice(0, 12), difference);
  if (known) known.committed = true;
}

/** A result must rest on committed entries for just the charges that the plan names behind it. */
function checkResult(
  plan: Plan,
  { node: id, key, label, paidBy, charges }: ResultEvidence,
  entries: ReadonlyMap<string, EntryEvidence>,
  findings: Findings,
): void {
  const node = lineageOf(plan).node(id);
  if (!node || node.key !== key || node.label !== label) {
    findings.add('result', id, 'the plan has no such node with this key and label');
    return;
  }
  const paid = new Set<string>();
  for (const entryId of paidBy) {
    const entry = entries.get(entryId);
    const name = entry && chargeName(entry);
    const planned = name === undefined ? undefined : chargesBehind(plan, node).get(name);
    findings.add(
      'result',
      id,
      !entry?.committed
        ? `the ledger's rows hold no committed entry ${entryId.slice(0, 12)}`
        : !planned
          ? `entry ${entryId.slice(0, 12)} was not charged for it`
          : isDeepStrictEqual(planned.mechanism, entry.mechanism)
            ? null
            : `entry ${entryId.slice(0, 12)} was charged for another mechanism`,
    );
    if (name !== undefined) paid.add(name);
  }
  const missing = [...chargesBehind(plan, node).keys()].filter((name) => !paid.has(name));
  findings.add('result', id, missing.length === 0 ? null : `${missing.length} of the charges behind it were not paid`);
  for (const { entryId, proof } of charges) {
    const entry = entries.get(entryId);
    findings.add('proof', id, entry ? proofDifference(entry.mechanism, proof) : 'its entry is not in the rows');
  }
}

function chargesBehind(plan: Plan, node: PlanNode): Map<string, NodeCharge> {
  const found = new Map<string, NodeCharge>();
  for (const behind of lineageOf(plan).behind(node.id)) {
    for (const charge of chargesOf(behind)) found.set(chargeNameOf(behind, charge), charge);
  }
  return found;
}

/** What the run reserved must be of its plan: nothing was spent under its name that the plan does not show. */
function checkAllCharged({ evidence, plan }: Bundle, entries: ReadonlyMap<string, EntryEvidence>, findings: Findings) {
  const planned = new Map(
    plan.nodes.flatMap((node) => chargesOf(node).map((charge) => [chargeNameOf(node, charge), charge] as const)),
  );
  for (const [id, entry] of entries) {
    if (entry.workflowId !== evidence.run.workflowId) continue;
    const charge = planned.get(chargeName(entry));
    findings.add(
      'ledger',
      `entry ${id.slice(0, 12)}`,
      charge && isDeepStrictEqual(charge.mechanism, entry.mechanism) ? null : 'its mechanism is not in the plan',
    );
  }
}

function checkStatement({ evidence, plan }: Bundle, findings: Findings): void {
  const entryOf = new Map(
    evidence.results.flatMap(({ node, charges }) =>
      charges.map(({ dataset, mechanismDigest, entryId }) => [`${node}\n${dataset}\n${mechanismDigest}`, entryId]),
    ),
  );
  const again = privacyStatement(
    plan,
    null,
    (node, charge) => entryOf.get(`${node.id}\n${accountOf(charge)}\n${charge.digest}`) ?? null,
  );
  // What was read from JSON has no undefined members.
  const same = isDeepStrictEqual(JSON.parse(JSON.stringify(again)), JSON.parse(JSON.stringify(evidence.statement)));
  const planDigestsAgree = evidence.run.planDigest === plan.digest;
  findings.add('statement', evidence.run.name, same ? null : 'it says other than what plan and entries give');
  findings.add('plan', evidence.run.name, planDigestsAgree ? null : 'the run was started with another plan');
}
