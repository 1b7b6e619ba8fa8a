/** @file A workspace for tests that run commands in their own process. */

import { join } from 'node:path';

import { afterAll } from 'vitest';

import { openWorkspace, type Workspace } from './workspace.ts';

/** Opens a workspace, with state and `ledger/` of its own, as the folder that commands work in; removed after the tests. */
export function workspaceOfTests(): Workspace {
  const workspace = openWorkspace();
  Object.assign(process.env, {
    EPSILONFLOW_HOME: join(workspace.folder, 'state'),
    EPSILONFLOW_LEDGER_URL: `sqlite:${join(workspace.folder, 'ledger', 'ledger.db')}`,
  });
  const startedIn = process.cwd();
  process.chdir(workspace.folder);
  afterAll(() => {
    process.chdir(startedIn);
    workspace.remove();
  });
  return workspace;
}
