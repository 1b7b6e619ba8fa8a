/**
 * @file Recomputes the evidence of a run: the plan from the spec, every epsilon from its mechanism, every charge from the
 * ledger's rows and proofs, the statement from the plan. Needs neither data nor ledger nor network. Reports what differs.
 */

import { compile, type CompileHost } from '../../compiler/index.ts';
import { composedEpsilon } from '../../privacy/accounting/index.ts';
import { calibrateNoiseMultiplier } from '../../privacy/calibration.ts';
import { mechanismEvent, sealMechanism } from '../../privacy/ledger/index.ts';
import { accountOf, chargeNameOf, chargesOf } from '../../schemas/charges.ts';
import { SpecFaults } from '../../schemas/errors.ts';
import { lineageOf } from '../../schemas/lineage.ts';
import type { NodeCharge, Plan, PlanNode } from '../../schemas/plan.ts';
import { planDigest } from '../../schemas/plan-digest.ts';
import { programVersion } from '../program-version.ts';
import { privacyStatement } from '../statement.ts';
import { agree, close } from './agreement.ts';
import type { Bundle } from './bundle.ts';
import { Findings, type Verdict } from './findings.ts';
import { ownEntries, paidEntries } from './statement-entries.ts';
import { checkRows, type LedgerEvidence } from './verify-entries.ts';
import { checkAllCharged, checkResults } from './verify-results.ts';

export type { Verdict } from './findings.ts';

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
async function checkSpec({ evidence, spec, plan }: Bundle, findings: Findings): Promise<void> {
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
    const { file, profile } = plan.spec;
    const { plan: again } = await compile({ file, profile: profile ?? undefined, reruns: plan.reruns }, host);
    const digest = planDigest(asRecorded(again, plan));
    difference =
      digest === plan.digest
        ? null
        : `compiles to another plan (${digest.slice(0, 12)})${changedSince(evidence.madeBy, again, plan)}`;
  } catch (error) {
    const faults = error instanceof SpecFaults ? error.faults : [error as Error];
    difference = `does not compile: ${faults.map(({ message }) => message).join('; ')}`;
  }
  findings.add('spec', plan.name, difference);
}

/**
 * A plan made again, without the settings that change no result and that plans did not have when `recorded` was made:
 * how much memory training may take.
 */
const asRecorded = (again: Plan, recorded: Plan): Plan => ({
  ...again,
  nodes: again.nodes.map((node, place): PlanNode => {
    const params = { ...(node.params as unknown as Record<string, unknown>) };
    if (!Object.hasOwn(recorded.nodes[place]?.params ?? {}, 'memory')) delete params['memory'];
    return { ...node, params: params as unknown as PlanNode['params'] } as PlanNode;
  }),
});

/** What of the program is another than when the plan was made, which explains that it compiles otherwise; or nothing. */
function changedSince(madeBy: string, again: Plan, recorded: Plan): string {
  const versions = new Map(again.nodes.map(({ kind, kindVersion }) => [kind, kindVersion]));
  const kinds = recorded.nodes.flatMap(({ kind, kindVersion }) => {
    const now = versions.get(kind);
    return now === undefined || now === kindVersion ? [] : [`${kind} of version ${kindVersion}, here ${now}`];
  });
  const program = madeBy === programVersion() ? [] : [`Epsilonflow ${madeBy}, here ${programVersion()}`];
  const changed = [...program, ...new Set(kinds)];
  return changed.length === 0 ? '' : `; it was made by ${changed.join('; ')}: verify it with the version that made it`;
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
  const same = agree(again, evidence.statement);
  const planDigestsAgree = evidence.run.planDigest === plan.digest;
  findings.add('statement', evidence.run.name, same ? null : 'it says other than what plan and entries give');
  findings.add('plan', evidence.run.name, planDigestsAgree ? null : 'the run was started with another plan');
}
