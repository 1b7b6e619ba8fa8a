/** A run that paid for all of its nodes, on a real ledger and store, beside another experiment on the same account. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { envelopeAccount, envelopeEntry, openLedger, type Ledger } from '../../privacy/ledger/index.ts';
import type { MechanismProof } from '../../schemas/artifact.ts';
import { accountOf, chargesOf } from '../../schemas/charges.ts';
import { lineageOf } from '../../schemas/lineage.ts';
import type { Mechanism, Plan, PlanNode } from '../../schemas/plan.ts';
import { openStore, type Store } from '../../store/index.ts';
import { passEvents } from '../../tracking/door.ts';
import { appendEvents, type RunEvent } from '../../tracking/events.ts';
import { writeRun, type RunFolder } from '../../tracking/runs.ts';
import { openWorkspace, preamble } from '../compiler/workspace.ts';
import { ownState } from './made-up-run.ts';

const spec = `${preamble}
matrix: { epsilon: [4, .inf], seed: [1] }
steps:
  generator:
    uses: finetune
    with: { model: base, data: reviews, epsilon: "\${{ matrix.epsilon }}", seed: "\${{ matrix.seed }}" }
  synthetic:
    uses: generate
    with: { generator: "\${{ steps.generator }}", count: 10 }
`;

interface Parts {
  ledger: Ledger;
  store: Store;
  plan: Plan;
  run: RunFolder;
}

export interface HonestRun extends Parts {
  /** Holds spec and data; for files of the test, too. */
  folder: string;
  /** Id of the other experiment's entry. */
  elsewhere: string;
  close(): Promise<void>;
}

/** What its sets hold. */
const syntheticRows = [
  { text: 'good, all told', label: 'pos' },
  { text: 'never again', label: 'neg' },
];

function proofOf(mechanism: Mechanism): MechanismProof | null {
  if (mechanism.kind !== 'poisson-gaussian') return null;
  const { kind: _, ...done } = mechanism;
  return { sampler: 'poisson', ...done };
}

/** Of the noise keys, and how many records were drawn for a step: the ledger's own. */
export const fingerprint = 'f1'.repeat(32);
export const drawn = 8_124_771;

/** Another experiment on the same account, before this one: it opens the account. Its entry has begun. */
async function spendElsewhere({ ledger, plan }: Parts, node: PlanNode): Promise<string> {
  const charges = chargesOf(node);
  const [receipt] = await ledger.reserve({
    workflowId: 'somebody-else/7-abc',
    experiment: 'somebody-else',
    planDigest: 'de'.repeat(32),
    accounts: charges.map((charge) => envelopeAccount(accountOf(charge), plan.datasets)),
    entries: charges.map((charge) => ({
      ...envelopeEntry(node, charge, 0),
      nodeKey: 'ab'.repeat(32),
      nodeId: 'their-generator',
    })),
  });
  await ledger.begin(receipt!, 1, fingerprint);
  return receipt!.entryId;
}

/** Pays for a node as its run would, and stores a result. */
async function finish(
  { ledger, plan, store, run }: Parts,
  node: PlanNode,
  paidBy: Map<string, string[]>,
): Promise<void> {
  const charges = chargesOf(node);
  const receipts = await ledger.reserve({
    workflowId: run.record.workflowId,
    experiment: plan.name,
    planDigest: plan.digest,
    accounts: charges.map((charge) => envelopeAccount(accountOf(charge), plan.datasets)),
    entries: charges.map((charge) => envelopeEntry(node, charge, 0)),
  });
  for (const [index, receipt] of receipts.entries()) {
    const token = await ledger.begin(receipt, 1, fingerprint);
    await ledger.recordStep(receipt, token, 0, 'a'.repeat(64), drawn);
    await ledger.commit(receipt, token, proofOf(charges[index]!.mechanism));
  }
  const behind = Object.values(node.inputs).flatMap((input) =>
    'nodes' in input ? input.nodes.flatMap((id) => paidBy.get(id) ?? []) : [],
  );
  const paid = [...new Set([...behind, ...receipts.map(({ entryId }) => entryId)])].sort();
  paidBy.set(node.id, paid);
  const stage = await store.artifacts.stage('test', node.label);
  const write = (file: string, content: string): void => writeFileSync(join(stage.directory, file), content);
  write('result.json', JSON.stringify(node.id));
  if (node.kind === 'generate') {
    write('synthetic.jsonl', syntheticRows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    write('labels.json', `${JSON.stringify(['neg', 'pos'])}\n`);
  }
  const { key, kind, label, sensitivity, axes } = node;
  await store.artifacts.publish(stage, {
    ...{
      key,
      kind,
      label,
      sensitivity,
      axes,
      nodeId: node.id,
      metrics: {},
      summary: {},
      privacy: lineageOf(plan)
        .privacyBehind(node.id)
        .map(({ privacy }) => privacy),
      paidBy: paid,
    },
    charges: receipts.map((receipt, index) => ({ ...receipt, proof: proofOf(charges[index]!.mechanism) })),
  });
  const completed: RunEvent = {
    ...{ type: 'node-completed', time: 0, node: node.id, key, reused: false, metrics: {}, seconds: 1, attempt: 1 },
  };
  appendEvents(run.directory, passEvents(plan, [completed]));
}

/** In a state folder of its own, until `close`. */
export async function makeHonestRun(): Promise<HonestRun> {
  const workspace = openWorkspace();
  const removeState = ownState();
  const ledger = await openLedger(`sqlite:${join(workspace.folder, 'ledger', 'ledger.db')}`);
  const store = openStore();
  const plan = await workspace.plan(spec);
  const record = {
    ...{ name: plan.name, number: 1, workflowId: `${plan.name}/1-abc`, planDigest: plan.digest },
    ...{ specFile: plan.spec.file, startedAt: new Date(0).toISOString() },
  };
  const parts: Parts = { ledger, store, plan, run: { record, directory: writeRun(record, spec) } };
  const paidBy = new Map<string, string[]>();
  const elsewhere = await spendElsewhere(
    parts,
    plan.nodes.find(({ privacy }) => privacy?.epsilon !== null)!,
  );
  for (const node of plan.nodes) await finish(parts, node, paidBy);
  const close = async (): Promise<void> => {
    await ledger.close();
    removeState();
    workspace.remove();
  };
  return { ...parts, folder: workspace.folder, elsewhere, close };
}
