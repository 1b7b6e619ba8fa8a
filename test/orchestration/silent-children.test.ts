import type { Client } from '@temporalio/client';
import { WorkflowNotFoundError } from '@temporalio/common';
import { expect, it } from 'vitest';
import { endedOf } from '../../activities/workflow-states.ts';

/** A server that says this of workflows, each after so many calls of others have begun. */
function clientOf(describe: (id: string) => Promise<string>): { client: Client; asked: string[]; most: () => number } {
  const asked: string[] = [];
  let underWay = 0;
  let most = 0;
  const client = {
    withDeadline: (_deadline: number, work: () => unknown) => work(),
    workflow: {
      getHandle: (id: string) => ({
        describe: async () => {
          asked.push(id);
          underWay += 1;
          most = Math.max(most, underWay);
          await new Promise((resolve) => setImmediate(resolve));
          try {
            return { status: { name: await describe(id) } };
          } finally {
            underWay -= 1;
          }
        },
      }),
    },
  } as unknown as Client;
  return { client, asked, most: () => most };
}

const ids = Array.from({ length: 100 }, (_, place) => `child.${place}`);

it('asks for many workflows at a time, and for each once', async () => {
  const { client, asked, most } = clientOf((id) => Promise.resolve(id.endsWith('7') ? 'TERMINATED' : 'RUNNING'));
  expect(await endedOf(client, ids)).toEqual(ids.filter((id) => id.endsWith('7')));
  expect(asked).toEqual(ids);
  expect(most()).toBe(16);
});

it('hears of the others where one gets no answer', async () => {
  const { client } = clientOf((id) => {
    if (id === 'child.3') return Promise.reject(new Error('DEADLINE_EXCEEDED'));
    if (id === 'child.4') return Promise.reject(new WorkflowNotFoundError('forgotten', id, undefined));
    return Promise.resolve('COMPLETED');
  });
  expect(await endedOf(client, ids)).toEqual(ids.filter((id) => id !== 'child.3'));
});

it('is tried again where the server answers for none', async () => {
  const { client } = clientOf(() => Promise.reject(new Error('away')));
  await expect(endedOf(client, ids)).rejects.toThrow('away');
  expect(await endedOf(client, [])).toEqual([]);
});
