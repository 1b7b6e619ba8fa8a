/** @file Each service of a run killed once; `npm run chaos` kills a hundred times. */

import { expect, it } from 'vitest';

import { requires } from '../requires.ts';
import { runServiceChaos, victims } from './services.ts';

it.runIf(requires('postgres', 'chaos of services'))(
  'a run whose worker, step, Temporal, MLflow and PostgreSQL are killed ends by itself, with nothing done twice',
  async () => {
    const seed = Date.now() % 1_000_000;
    const { problems, kills, spent, charged } = await runServiceChaos({
      ...{ seed, kills: victims.length },
      say: (line) => process.stderr.write(`${line}\n`),
    });
    expect(problems, `seed ${seed}`).toEqual([]);
    expect(Object.values(kills)).toEqual(victims.map(() => 1));
    expect(spent).toBeGreaterThan(0);
    expect(charged).toBeGreaterThanOrEqual(spent);
  },
  900_000,
);
