/**
 * @file Recomputes the evidence of a run: the plan from the spec, every epsilon from its mechanism, every charge from the
 * ledger's rows and proofs, the statement from the plan. Needs neither data nor ledger nor network. Reports what differs.
 */

import { isDeepStrictEqual } from 'node:util';

import { compile, planDigest, type CompileHost } from '../../compiler/index.ts';
import { composedEpsilon } from '../../privacy/accounting/index.ts';
import { calibrateNoiseMultiplier } from '../../privacy/calibration.ts';
import { mechanismEvent, sealMechanism } from '../../privacy/ledger/index.ts';
import { accountOf, chargeNameOf, chargesOf } from '../../schemas/charges.ts';
import { SpecFaults } from '../../schemas/errors.ts';
import { lineageOf } from '../../schemas/lineage.ts';
import type { NodeCharge, Plan } from '../../schemas/plan.ts';
import { privacyStatement } from '../statement.ts';
import type { Bundle } from './bundle.ts';
import { Findings, type Verdict } from './findings.ts';
import { ownEntries, paidEntries } from './statement-entries.ts';
import { checkRows, type LedgerEvidence } from './verify-entries.ts';
import { checkAllCharged, checkResults } from './verify-results.ts';

export type { Verdict } from './findings.ts';

/** Agreement of two evaluations of one formula, which other processors may round otherwise. */
const close = (a: number, b: number): boolean => Math.abs(a - b) <= 1e-9 * Math.max(1, Math.abs(a), Math.abs(b));

/** Checks a bundle against itself. Linear in nodes and rows but for one accounting of each different mechanism. */
export async function verifyEvidence(bundle: Bundle): Promise<Verdict> {
  const findings = new Findings();
  const { evidence, plan } = bundle;
  await checkSpec(bundle, findings);
  findings.within('plan', plan.name, () => checkPlan(plan, findings));
  const ledger = checkRows(evidence.ledger, evidence.run.workflowId, findings);
  checkResults(bundle, ledger, findings);
  findings.within('ledger', evidence.run.name, () => checkAllCharged(bundle, ledger, findings));
  findings.within('statement', evidence.run.name, () => checkStatement(bundle, ledger, findings));
  return { checked: findings.checked, mismatches: findings.mismatches };
}

/** Compiles the spec again, with what the plan says of data and models in place of the files. */
async function checkSpec({ spec, plan }: Bundle, findings: Findings): Promise<void> {
  const host: CompileHost = {
    readSpec: () => Promise.resolve(spec),
    inspectDataset: ({ name }) => {
      const { digest = 'unused', privacy = null } = plan.datasets[name] ?? {};
      return Promise.resolve({ faults: [], digest, trainRecords: privacy?.size ?? null });
    },
    hubModel: ({ name }) => Promise.resolve(plan.models[name]?.path ?? 'unused'),
    modelDigest: (path) =>
      Promise.resolve(Object.values(plan.models).find((model) => model.path === path)?.digest ?? 'unused'),
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
  findings.compare('plan', plan.name, () => {
    const digest = planDigest(plan);
    return digest === plan.digest ? null : `its digest is ${digest}, not ${plan.digest}`;
  });
  const known = new Map<string, string | null>();
  for (const node of plan.nodes) {
    for (const charge of chargesOf(node)) {
      findings.compare('plan', node.id, () => sealDifference(plan, charge));
      findings.compare('epsilon', node.id, () => {
        const { mechanism, delta, epsilon, targetEpsilon } = charge;
        const query = JSON.stringify([mechanism, delta, epsilon, targetEpsilon]);
        if (!known.has(query)) known.set(query, epsilonDifference(charge));
        return known.get(query)!;
      });
    }
  }
  for (const [account, { experiment, delta }] of Object.entries(plan.privacy)) {
    findings.compare('account', account, () => {
      const events = chargesTo(plan, account).flatMap(({ mechanism }) => mechanismEvent(mechanism) ?? []);
      const again = events.length === 0 ? 0 : composedEpsilon(events, delta).epsilon;
      return close(again, experiment) ? null : `epsilon ${again}, not ${experiment}`;
    });
  }
}

function sealDifference(plan: Plan, charge: NodeCharge): string | null {
  const dataset = plan.datasets[charge.dataset];
  if (!dataset?.privacy) return `the plan has no dataset ${charge.dataset} that is charged for`;
  if (charge.delta !== dataset.privacy.delta) return `delta ${charge.delta}, that of its dataset is another`;
  return sealMechanism({ digest: dataset.digest, delta: charge.delta }, charge.mechanism) === charge.digest
    ? null
    : 'the digest of its mechanism is another';
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

function checkStatement({ evidence, plan }: Bundle, { entries }: LedgerEvidence, findings: Findings): void {
  const { released, results } = evidence;
  const instance = released === null ? null : lineageOf(plan).node(released[0]!);
  if (instance === undefined) {
    findings.add('statement', evidence.run.name, `the plan has no released instance ${released![0]}`);
    return;
  }
  const paid = new Set(results.find(({ node }) => node === instance?.id)?.paidBy);
  const paying = [...entries].filter(([id]) => paid.has(id));
  const again = privacyStatement(
    plan,
    instance,
    instance === null
      ? ownEntries(results)
      : paidEntries(
          paying.map(([id, entry]) => [id, { nodeKey: entry.node_key, mechanismDigest: entry.mechanism_digest }]),
        ),
  );
  // What was read from JSON has no undefined members.
  const same = isDeepStrictEqual(JSON.parse(JSON.stringify(again)), JSON.parse(JSON.stringify(evidence.statement)));
  const planDigestsAgree = evidence.run.planDigest === plan.digest;
  findings.add('statement', evidence.run.name, same ? null : 'it says other than what plan and entries give');
  findings.add('plan', evidence.run.name, planDigestsAgree ? null : 'the run was started with another plan');
}
