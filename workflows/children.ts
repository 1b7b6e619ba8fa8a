/** @file Children of an experiment: started, told to stop, heard, and looked after when they are silent. */

import {
  getExternalWorkflowHandle,
  ParentClosePolicy,
  startChild,
  workflowInfo,
  type ChildWorkflowOptions,
} from '@temporalio/workflow';
import type {
  CarriedRun,
  ExperimentTie,
  PlannedNode,
  PrivateStepInput,
  RunIdentity,
  RunLimits,
  StepEnd,
  StepReport,
} from '../activities/contract.ts';
import type { KnownHead } from '../privacy/ledger/ledger.ts';
import { control } from './control.ts';
import { endOf, laterHead } from './step-end.ts';
import { attributesOf, searchAttributes } from './search-attributes.ts';
import { stepOf } from './step-table.ts';
import { pausedSignal } from './pause.ts';
import type { privateStep } from './private-step.ts';
import type { stepBatch } from './step-batch.ts';
import { workflowFailure } from './failures.ts';

const itemOf = ({ id, kind }: PlannedNode): string => `- \`${id}\`: ${kind}`;

/** A child looks after its experiment this much less often than the experiment after its children. */
const lookFactor = 6;

/** Under limits, where what has ended makes place for something else, milliseconds. */
const shortGathering = 50;

export class Children {
  /** What came to its end and is not yet taken notice of. */
  readonly ended: StepEnd[] = [];
  /** Newest row of the ledger that a child has told of. */
  ledgerHead: KnownHead | null = null;
  /** Whether they have been told to pause. */
  arePaused: boolean;
  private readonly run: RunIdentity;
  private readonly limits: RunLimits;
  /** By the child's name, ids of nodes that it has not told of. */
  private readonly open: Map<string, Set<string>>;
  /** Names of those that were asked for and have not started yet. */
  private readonly starting = new Set<string>();
  private batches: number;

  constructor(run: RunIdentity, limits: RunLimits, carried: CarriedRun | null) {
    this.run = run;
    this.limits = limits;
    this.open = new Map(carried?.children.map(([name, nodes]) => [name, new Set(nodes)]));
    this.batches = carried?.batches ?? 0;
    this.arePaused = carried?.childrenPaused ?? false;
  }

  carried(): Pick<CarriedRun, 'children' | 'batches' | 'childrenPaused'> {
    const children = [...this.open].map(([name, nodes]): [string, string[]] => [name, [...nodes]]);
    return { children, batches: this.batches, childrenPaused: this.arePaused };
  }

  /** Takes a report; what was told before is left out. */
  hear({ child, ends, ledgerHead }: StepReport): void {
    const nodes = this.open.get(child);
    this.ended.push(...ends.filter(({ node }) => nodes?.delete(node)));
    if (nodes?.size === 0) this.open.delete(child);
    this.ledgerHead = laterHead(this.ledgerHead, ledgerHead);
  }

  /** Those that they have not told of. */
  nodes(): string[] {
    return [...this.open.values()].flatMap((nodes) => [...nodes]);
  }

  /** Nodes that may not start. */
  refuse(nodes: readonly PlannedNode[], error: unknown): void {
    this.ended.push(...nodes.map(({ id }) => endOf(id, error)));
  }

  /** Nodes that spend no privacy, each after those that it needs. Resolves when the child has started, or its nodes have ended without it. */
  async startBatch(nodes: readonly PlannedNode[]): Promise<void> {
    // No slug has a point: the name is no private child's.
    const name = `batch.${(this.batches += 1)}`;
    const places = new Map(nodes.map(({ id }, place) => [id, place]));
    const input = {
      run: this.run,
      nodes: nodes.map(({ id, slug, kind, queue, reads, needs }) => ({
        ...{ id, slug, kind },
        ...(queue && { queue }),
        ...(reads && { reads }),
        needs: needs.flatMap((need) => places.get(need) ?? []),
      })),
      tie: this.tie(name),
      events: this.limits.batchEvents,
    };
    const more = nodes.length > 1 ? ` and ${nodes.length - 1} more` : '';
    await this.start<typeof stepBatch>('stepBatch', name, nodes, {
      args: [input],
      staticSummary: `${nodes[0]!.id}${more}`,
      staticDetails: `Of **${this.runName}**:\n${nodes.slice(0, 50).map(itemOf).join('\n')}`,
    });
  }

  async startPrivate(input: Omit<PrivateStepInput, 'run' | 'tie'>): Promise<void> {
    const { node } = input;
    await this.start<typeof privateStep>('privateStep', node.slug, [node], {
      args: [{ ...input, run: this.run, tie: this.tie(node.slug) }],
      staticSummary: node.id,
      staticDetails: `Of **${this.runName}**:\n${itemOf(node)}, charged to ${node.charges.map(({ dataset }) => dataset).join(', ')}`,
    });
  }

  private get runName(): string {
    return `${this.run.name}/${this.run.number}`;
  }

  private tie(child: string): ExperimentTie {
    const { atATime, ownPlaces, lookEvery } = this.limits;
    const gathering = atATime && !ownPlaces ? { gatherFor: shortGathering } : {};
    return { child, lookEvery: lookFactor * lookEvery, ...gathering };
  }

  private async start<T extends typeof stepBatch | typeof privateStep>(
    type: 'stepBatch' | 'privateStep',
    name: string,
    nodes: readonly PlannedNode[],
    options: Pick<ChildWorkflowOptions, 'staticSummary' | 'staticDetails'> & { args: Parameters<T> },
  ): Promise<void> {
    this.open.set(name, new Set(nodes.map(({ id }) => id)));
    this.starting.add(name);
    try {
      const child = await startChild(type, {
        ...options,
        ...this.findable(nodes),
        workflowId: this.idOf(name),
        parentClosePolicy: ParentClosePolicy.ABANDON,
      });
      // It reports before it ends; seen only by the run of the workflow that started it.
      const lose = (): void => this.lose(name);
      void child.result().then(lose, lose);
    } catch (error) {
      this.end(name, error);
    } finally {
      this.starting.delete(name);
    }
  }

  /** What the child is found by, where the run is found by it. */
  private findable(nodes: readonly PlannedNode[]): Pick<ChildWorkflowOptions, 'typedSearchAttributes'> {
    if (workflowInfo().typedSearchAttributes.get(searchAttributes.experiment) === undefined) return {};
    const { name: experiment, planDigest } = this.run;
    return {
      typedSearchAttributes: attributesOf({
        ...{ experiment, planDigest },
        steps: nodes.map(({ id }) => stepOf(id)),
        datasets: nodes.flatMap(({ datasets = [] }) => datasets),
        epsilons: nodes.flatMap(({ epsilons = [] }) => epsilons),
      }),
    };
  }

  private idOf(name: string): string {
    return `${workflowInfo().workflowId}/${name}`;
  }

  /** Workflow ids of those that have something to tell. */
  ids(): string[] {
    return [...this.open.keys()].map((name) => this.idOf(name));
  }

  /** Tells all to pause, or to go on. */
  async setPaused(paused: boolean): Promise<void> {
    this.arePaused = paused;
    // One that has ended meanwhile has reported.
    await Promise.allSettled(this.ids().map((id) => getExternalWorkflowHandle(id).signal(pausedSignal, paused)));
  }

  /** Asks all to stop. They report what became of their nodes, as ever. */
  async cancel(): Promise<void> {
    const requests = this.ids().map((id) => getExternalWorkflowHandle(id).cancel());
    await Promise.allSettled(requests);
  }

  /** Finds those that were terminated: they report no more. Those that Temporal does not know yet are not among them. */
  async lookAfter(): Promise<void> {
    const names = [...this.open.keys()].filter((name) => !this.starting.has(name));
    if (names.length === 0) return;
    const ended = new Set(
      await control.findEnded(
        this.run,
        names.map((name) => this.idOf(name)),
      ),
    );
    for (const name of names) if (ended.has(this.idOf(name))) this.lose(name);
  }

  private lose(name: string): void {
    this.end(
      name,
      workflowFailure(
        'JOB_CRASHED',
        `The workflow ${this.idOf(name)} ended without a result: was it terminated?`,
        'Run the spec again: what has finished is reused.',
      ),
    );
  }

  private end(name: string, error: unknown): void {
    for (const node of this.open.get(name) ?? []) this.ended.push(endOf(node, error));
    this.open.delete(name);
  }
}
