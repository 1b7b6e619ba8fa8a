import { afterEach, expect, it, vi } from 'vitest';
import { Troubles } from '../../activities/troubles.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';

afterEach(() => void vi.useRealTimers());

const fail = (error: Error) => (): Promise<never> => Promise.reject(error);

it('tells each kind of failure once an hour, with what to do, and nothing that may quote data', async () => {
  const said: string[] = [];
  const troubles = new Troubles((line) => said.push(line.replace(/^\S+ /, '')));
  vi.useFakeTimers({ now: 0 });
  const away = new EpsilonflowError('SERVICE_UNREACHABLE', 'The store gave no answer.', { hint: 'Start it.' });
  await troubles.watch('Logs are not sent', fail(away));
  await troubles.watch('Logs are not sent', fail(away));
  await troubles.watch('Logs are not sent', fail(new Error('near "a record that was planted"')));
  await troubles.watch('Data are not served', fail(away));
  await troubles.watch('Logs are not sent', () => Promise.resolve());
  expect(said).toMatchInlineSnapshot(`
    [
      "SERVICE_UNREACHABLE: Logs are not sent. The store gave no answer. Start it. It is tried again by itself.",
      "Error: Logs are not sent. It is tried again by itself.",
      "SERVICE_UNREACHABLE: Data are not served. The store gave no answer. Start it. It is tried again by itself.",
    ]
  `);
  vi.setSystemTime(3_600_000);
  await troubles.watch('Data are not served', fail(away));
  expect(said).toHaveLength(4);
});
