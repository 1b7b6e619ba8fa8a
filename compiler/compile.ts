/** @file YAML text to plan: the order of the checks, and what the plan says as a whole. */

import { resolve } from 'node:path';

import { shownBenchmarksOf } from '../schemas/charges.ts';
import { type EpsilonflowError, SpecFaults } from '../schemas/errors.ts';
import { lineageOf } from '../schemas/lineage.ts';
import type { Plan, PlanNode } from '../schemas/plan.ts';
import type { Scheduling } from '../schemas/scheduling.ts';
import { planDigest } from '../schemas/plan-digest.ts';
import { accountRequest, accountsOf, planAccount } from './accounts.ts';
import { FaultList } from './faults.ts';
import type { CompileHost } from './host.ts';
import { instantiate } from './instances.ts';
import { readMatrix } from './matrix.ts';
import { MechanismPlanner } from './mechanisms.ts';
import type { PlaceOf } from './misses.ts';
import { type Overdraft, overdraftOf, refusal } from './overdraft.ts';
import { placesIn } from './places.ts';
import { applyProfile } from './profile.ts';
import { readScheduling } from './scheduling.ts';
import { readDatasets, readModels, readWaivers } from './resources.ts';
import { child, entriesOf, parseSource, stringOf } from './source.ts';
import { checkSpec, partOf } from './spec-schema.ts';
import { checkAxesUsed, inferAxes, orderSteps } from './step-order.ts';
import { readSteps } from './steps.ts';

interface CompileRequest {
  /** Path of the spec, absolute or from the working directory. */
  file: string;
  /** Name of a profile of the spec. */
  profile?: string | undefined;
  /** Steps that are to run again: see `Plan.reruns`. */
  reruns?: Plan['reruns'];
}

export interface Compiled {
  plan: Plan;
  /** The spec as it was read. */
  specText: string;
  scheduling: Scheduling;
  /** Accounts that the plan would overdraw, and what would fit instead. */
  overdrafts: Overdraft[];
  /** Where a value of a node stands in the spec. */
  placeOf: PlaceOf;
  /** Training records of the datasets, as far as they are public: declared, or counted where the data are public. */
  records: ReadonlyMap<string, number>;
  /** By account of the plan, the account of the ledger that pays; empty offline. */
  ledgerAccounts: ReadonlyMap<string, string>;
  /** The same as BUDGET_REFUSED each, at the place of the first instance that does not fit. */
  refusals: EpsilonflowError[];
}

/** Codes that don't depend on what stands elsewhere in the file. */
const localCodes = new Set(['SPEC_SCHEMA', 'SPEC_UNKNOWN_KEY', 'SPEC_EXPRESSION', 'DATA_FILE_MISSING']);

/**
 * Whether a fault is certain where YAML could not read a part of the file: what stands before that part and concerns
 * itself only, or is a plain misspelling. Anything else may be a consequence of what could not be read.
 */
function isCertain(fault: EpsilonflowError, brokenFrom: number): boolean {
  if ((fault.position?.line ?? 0) >= brokenFrom) return false;
  return localCodes.has(fault.code) || fault.hint?.startsWith('Did you mean') === true;
}

/**
 * Compiles a spec into a plan.
 *
 * @throws SpecFaults with every fault of the spec and its data, in the order of the file.
 * @throws EpsilonflowError SPEC_FILE_MISSING, DATA_ENCODING when the file can't be read.
 */
export async function compile(request: CompileRequest, host: CompileHost): Promise<Compiled> {
  const file = resolve(request.file);
  const text = await host.readSpec(file);
  const faults = new FaultList();
  const { root, faults: syntax, brokenFrom } = parseSource(text, file);
  for (const fault of syntax) faults.push(fault);
  const certain = (fault: EpsilonflowError): boolean =>
    brokenFrom === Infinity || syntax.includes(fault) || isCertain(fault, brokenFrom);

  const replaced = applyProfile(root, request.profile, faults);
  checkSpec(root, faults);
  const matrix = readMatrix(partOf(root, 'matrix'), replaced, faults);
  const names = (key: string): ReadonlySet<string> => new Set(entriesOf(partOf(root, key)).map(([name]) => name));
  const steps = readSteps(
    partOf(root, 'steps'),
    { axes: matrix.axes, datasets: names('datasets'), models: names('models') },
    faults,
  );
  checkAxesUsed(partOf(root, 'steps'), steps, matrix.axes, faults);
  const ordered = orderSteps(steps, faults);
  inferAxes(ordered, matrix.axes, faults);
  const { datasets, publicRecords } = await readDatasets(partOf(root, 'datasets'), file, host, faults);
  const models = await readModels(partOf(root, 'models'), file, host, faults);

  const waivers = readWaivers(partOf(root, 'waive'));
  const planner = new MechanismPlanner(host);
  const waived = new Set(waivers.map(({ name }) => name));
  const nodes = instantiate(ordered, matrix, { datasets, models, waivers: waived, planner }, faults, request.reruns);
  faults.throwIfAny(certain);

  await lookUp(nodes, host);
  const used = usedResources(nodes);
  const plan: Plan = {
    planVersion: 1,
    name: stringOf(child(root, 'name'))!,
    digest: '',
    spec: { file, profile: request.profile ?? null },
    ...(request.reruns ? { reruns: request.reruns } : {}),
    failure: stringOf(child(root, 'failure')) === 'fail-fast' ? 'fail-fast' : 'continue',
    waivers,
    datasets: Object.fromEntries([...datasets].filter(([name]) => used.datasets.has(name))),
    models: Object.fromEntries([...models].filter(([name]) => used.models.has(name))),
    nodes,
    privacy: {},
  };
  const requests = accountsOf(plan).map((account) => accountRequest(account, plan));
  const figures = (await host.accounts?.(requests, { experiment: plan.name, shown: shownBenchmarksOf(plan) })) ?? [];
  const overdrafts: Overdraft[] = [];
  for (const [index, request] of requests.entries()) {
    const account = planAccount(request, nodes, figures[index], host);
    plan.privacy[request.account] = account;
    const overdraft = await overdraftOf(request, account, figures[index], plan, host);
    if (overdraft !== null) overdrafts.push(overdraft);
  }
  plan.digest = planDigest(plan);
  return {
    plan,
    specText: text,
    scheduling: readScheduling(root),
    placeOf: placesIn(ordered, matrix),
    records: new Map([...declaredRecords(plan), ...publicRecords]),
    overdrafts,
    ledgerAccounts: new Map(figures.map(({ ledgerAccount }, index) => [requests[index]!.account, ledgerAccount])),
    refusals: overdrafts.map(refusal),
  };
}

/** Compiles a spec into a plan; {@link compile} also tells which budgets it would overdraw. */
export async function compileSpec(request: CompileRequest, host: CompileHost): Promise<Plan> {
  return (await compile(request, host)).plan;
}

const declaredRecords = ({ datasets }: Plan): [string, number][] =>
  Object.values(datasets).flatMap(({ name, privacy }): [string, number][] => (privacy ? [[name, privacy.size]] : []));

async function lookUp(nodes: PlanNode[], host: CompileHost): Promise<void> {
  if (host.cached === null) return;
  const lineage = lineageOf({ nodes });
  const found = await host.cached(nodes.map(({ id, key }) => ({ key, charges: lineage.chargesBehind(id) })));
  for (const node of nodes) node.cached = found.has(node.key);
}

function usedResources(nodes: PlanNode[]): { datasets: Set<string>; models: Set<string> } {
  const datasets = new Set<string>();
  const models = new Set<string>();
  for (const { inputs } of nodes) {
    for (const input of Object.values(inputs)) {
      if ('dataset' in input) datasets.add(input.dataset);
      else if ('model' in input) models.add(input.model);
    }
  }
  return { datasets, models };
}

/** @throws SpecFaults when there are refusals. */
export function refuseIfOverdrawn({ refusals: found }: Compiled): void {
  if (found.length > 0) throw new SpecFaults(found);
}
