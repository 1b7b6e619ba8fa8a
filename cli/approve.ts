/** @file `epsilonflow approve`: lets a run go on that waits for someone's word. */

import { describeApproval, type Approval } from '../schemas/approvals.ts';
import { hostname, userInfo } from 'node:os';
import type { Command } from 'commander';
import { EpsilonflowError } from '../schemas/errors.ts';
import { action, printJson, printLine } from './output.ts';

interface ApproveOptions {
  reason: string;
  author: string;
  json?: boolean;
}

export function approveCommand(program: Command): void {
  program
    .command('approve')
    .description('Approve what a run waits for: steps that need approval, or accounts above their soft budgets.')
    .argument('<run>', 'NAME/NUMBER, NAME or latest')
    .requiredOption('--reason <text>', 'why it may go on; recorded in log, report and Temporal')
    .option('--author <name>', 'who approves', `${userInfo().username}@${hostname()}`)
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  epsilonflow approve quickstart/3 --reason "budget agreed on in May"')
    .action(action(approve));
}

async function approve(reference: string, { reason, author, json }: ApproveOptions): Promise<void> {
  const { withOpenRun } = await import('./open-workflow.ts');
  if (reason.trim() === '' || author.trim() === '') {
    throw new EpsilonflowError('ARGUMENT_INVALID', 'An approval needs an author and a reason.');
  }
  await withOpenRun(reference, async ({ run, client, workflowId }) => {
    const handle = client.workflow.getHandle(workflowId);
    const approval = await handle.executeUpdate<Approval | null, [string, string]>('approve', {
      args: [author, reason],
    });
    if (approval === null) {
      throw new EpsilonflowError('ARGUMENT_INVALID', `${run} waits for no approval now.`, {
        hint: `See \`epsilonflow status ${run}\`.`,
      });
    }
    if (json) return printJson({ run, ...approval });
    printLine(`${run}: ${author} has approved ${describeApproval(approval)}.`);
  });
}
