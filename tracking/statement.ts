/**
 * @file The privacy statement of a run or of one of its results: what was spent on which data, how it was counted, and
 * what it does not cover. One value; report, release and data card all print it. Pure.
 */

import { composedEpsilon } from '../privacy/accounting/index.ts';
import { mechanismEvent } from '../privacy/ledger/index.ts';
import { accountOf, chargesOf, splitOfAccount } from '../schemas/charges.ts';
import type { DatasetPrivacy, NodeCharge, Plan, PlanNode, Sensitivity } from '../schemas/plan.ts';
import { lineageOf } from '../schemas/lineage.ts';
import { describeMechanism, showEpsilon } from './wording.ts';

export interface PrivacyStatement {
  /** What the statement is about: a run, or the id of an instance. */
  subject: string;
  planDigest: string;
  datasets: DatasetStatement[];
  /** Base models by name with their digests: epsilon does not cover what they were trained on. */
  models: { name: string; digest: string }[];
  /** `float`: some noise is added in ordinary floating-point arithmetic, which the mechanism's proof does not model. */
  arithmetic: 'exact' | 'float';
  waivers: { name: string; reason: string }[];
  notCovered: string[];
}

export interface DatasetStatement {
  dataset: string;
  /** Name of the account that pays: the dataset's, or that of its test split. */
  account: string;
  split: 'train' | 'test';
  sensitivity: Sensitivity;
  /** Content digest of the records; keyed when the dataset is private. */
  digest: string;
  unit: DatasetPrivacy['unit'];
  adjacency: string;
  /** Number of training records, treated as public. */
  size: number;
  /** Whether that number was counted in the file rather than declared. */
  counted: boolean;
  /** Of the mechanisms below, composed. Null: unbounded. */
  epsilon: number | null;
  delta: number;
  /** Epsilon that the whole run, as planned, takes from the account; null when unbounded. */
  wholeRunEpsilon: number | null;
  /** The same without what is unbounded; null when the plan has no account for the dataset. */
  chargedEpsilon: number | null;
  budget: number | null;
  mechanisms: MechanismStatement[];
}

export interface MechanismStatement {
  instance: string;
  targetEpsilon: number | 'inf';
  /** Null: unbounded. */
  epsilon: number | null;
  delta: number;
  accountant: NodeCharge['accountant'];
  mechanism: NodeCharge['mechanism'];
  description: string;
  ledgerEntry: string | null;
}

/** Two datasets are neighbours when one has one record more. Poisson sampling is accounted for under this relation. */
const adjacency = 'adding or removing one record';

const notCovered = [
  'access to the data other than through Epsilonflow and its ledger, and modified code or workers',
  'several ledgers for one dataset: two clones with a file each do not know of each other',
  'timing and other side channels of the machine',
  'choices made by people who saw non-private figures, such as test accuracies of a benchmark',
  'what the base model was trained on',
  'training on an NVIDIA card: how it rounds was not checked, and the clip norm is not proven there',
];

/** The corpus of a base model: which of its passages are there depends on records that no mechanism stands before. */
const decontaminated = (names: readonly string[]): string =>
  `the decontamination of the base model's corpus against ${names.join(', ')}: what was taken out of it depends on ` +
  'their records, and no epsilon bounds that';

const notCoveredByFloats =
  'floating-point arithmetic: the proof is about real numbers; the noise is drawn and added as floats, and clipped ' +
  'norms stay below their bound but for rounding errors that are estimated, not proven';

/**
 * Statement about a whole run (`instance` null) or about one instance and what stands behind it.
 *
 * @param ledgerEntryOf id of the ledger entry that pays for a charge of a node, when there is one.
 */
export function privacyStatement(
  plan: Plan,
  instance: PlanNode | null,
  ledgerEntryOf: (node: PlanNode, charge: NodeCharge) => string | null,
): PrivacyStatement {
  const behind = instance ? lineageOf(plan).behind(instance.id) : plan.nodes;
  const accounts = new Map<string, MechanismStatement[]>();
  for (const node of behind) {
    for (const input of Object.values(node.inputs))
      if ('dataset' in input) accounts.set(input.dataset, accounts.get(input.dataset) ?? []);
    for (const charge of chargesOf(node)) {
      const { targetEpsilon, epsilon, delta, accountant, mechanism } = charge;
      const statement: MechanismStatement = {
        instance: node.id,
        targetEpsilon,
        epsilon,
        delta,
        accountant,
        mechanism,
        description: describeMechanism(charge),
        ledgerEntry: ledgerEntryOf(node, charge),
      };
      const account = accountOf(charge);
      accounts.set(account, [...(accounts.get(account) ?? []), statement]);
    }
  }
  const models = new Set(
    behind.flatMap((node) => Object.values(node.inputs).flatMap((input) => ('model' in input ? [input.model] : []))),
  );
  const floats = [...accounts.values()]
    .flat()
    .some(({ mechanism }) => 'arithmetic' in mechanism && mechanism.arithmetic === 'float');
  const references = referencesOf(plan, behind);
  const waivers = instance ? plan.waivers.filter(({ name }) => instance.waivers.includes(name)) : plan.waivers;
  return {
    subject: instance ? instance.id : plan.name,
    planDigest: plan.digest,
    datasets: [...accounts].flatMap(([name, mechanisms]) => {
      const statement = datasetStatement(plan, name, mechanisms, instance === null);
      return statement ? [statement] : [];
    }),
    models: Object.values(plan.models)
      .filter(({ name }) => models.has(name))
      .map(({ name, digest }) => ({ name, digest })),
    arithmetic: floats ? 'float' : 'exact',
    waivers,
    notCovered: [
      ...notCovered,
      ...(references.length > 0 ? [decontaminated(references)] : []),
      ...(floats ? [notCoveredByFloats] : []),
    ],
  };
}

/** Datasets that aren't public and that corpora were decontaminated against. */
function referencesOf({ datasets }: Plan, behind: readonly PlanNode[]): string[] {
  const names = behind
    .filter(({ kind }) => kind === 'decontaminate')
    .flatMap(({ inputs }) => Object.values(inputs).flatMap((input) => ('dataset' in input ? [input.dataset] : [])));
  return [...new Set(names)].filter((name) => datasets[name]?.sensitivity !== 'public').sort();
}

function datasetStatement(
  plan: Plan,
  name: string,
  mechanisms: MechanismStatement[],
  whole: boolean,
): DatasetStatement | null {
  const { dataset: datasetName, split } = splitOfAccount(name);
  const dataset = plan.datasets[datasetName];
  if (!dataset?.privacy) return null;
  const { unit, size, counted, delta, budget } = dataset.privacy;
  const account = plan.privacy[name];
  const wholeRunEpsilon = account && account.unbounded === 0 ? account.experiment : null;
  return {
    dataset: datasetName,
    account: name,
    split,
    sensitivity: dataset.sensitivity,
    digest: dataset.digest,
    unit,
    adjacency,
    size,
    counted,
    epsilon: whole ? wholeRunEpsilon : composed(mechanisms, delta),
    delta,
    wholeRunEpsilon,
    chargedEpsilon: account?.experiment ?? null,
    budget: budget?.epsilon ?? null,
    mechanisms,
  };
}

/** Epsilon of several mechanisms on one dataset together; of one its own figure. Null when any is unbounded. */
function composed(mechanisms: readonly MechanismStatement[], delta: number): number | null {
  const [first, ...others] = mechanisms;
  if (!first) return 0;
  if (others.length === 0) return first.epsilon;
  const events = mechanisms.map(({ mechanism }) => mechanismEvent(mechanism));
  const bounded = events.filter((event) => event !== null);
  return bounded.length < events.length ? null : composedEpsilon(bounded, delta).epsilon;
}

/** The guarantee about one dataset in words that one can sign. */
export function guarantee(statement: DatasetStatement): string {
  const { dataset, split, epsilon, delta, unit, mechanisms } = statement;
  if (mechanisms.length === 0) return `No mechanism read the training records of ${dataset}.`;
  const standing =
    statement.sensitivity === 'benchmark'
      ? ` ${capitalised(dataset)} is public data standing in for private data: this is a rehearsal of the guarantee.`
      : '';
  if (epsilon === null) {
    return (
      `What is described here is not differentially private with respect to ${dataset}: ` +
      `part of it was trained without DP, which no epsilon bounds.${standing}`
    );
  }
  return (
    `(ε = ${showEpsilon(epsilon)}, δ = ${delta.toExponential(1)})-differential privacy for each ${split === 'test' ? `test ${unit}` : unit} of ${dataset}, ` +
    `where neighbouring datasets differ by ${statement.adjacency}. ${publicFacts(statement)} ` +
    `Counted by the ${accountants(mechanisms)} accountant over ${mechanisms.length} ` +
    `mechanism${mechanisms.length === 1 ? '' : 's'}.${standing}`
  );
}

/** What of the data is taken as known, and how the mechanisms read them. */
const publicFacts = ({ split, size, counted, unit }: DatasetStatement): string =>
  split === 'test'
    ? `Each table of true and predicted classes has discrete Laplace noise; the number of test ${unit}s is not told.`
    : `The ${counted ? 'counted' : 'declared'} number of ${unit}s, ${size.toLocaleString('en')}, is treated as public. ` +
      'Batches are Poisson samples.';

const accountants = (mechanisms: MechanismStatement[]): string =>
  [...new Set(mechanisms.map(({ accountant }) => (accountant === 'pld' ? 'privacy-loss-distribution' : 'Rényi')))].join(
    ' and ',
  );

const capitalised = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
