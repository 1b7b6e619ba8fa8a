/** A process that reserves one workflow after another on one account; prints how many it asked for and got. */

import { openLedger } from '../../privacy/ledger/index.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { entry, envelope, mechanism, registration } from './ledger-fixture.ts';

const [url, name, count, budget, steps] = process.argv.slice(2);
const ledger = await openLedger(url!);
await ledger.register([registration()]);
const short = { ...mechanism, steps: Number(steps) };
let asked = 0;
let admitted = 0;
for (; asked < Number(count); asked += 1) {
  try {
    const wanted = entry(`node-${name}-${asked}`, { mechanism: short });
    await ledger.reserve(envelope(`${name}-${asked}`, [wanted], Number(budget)));
    admitted += 1;
  } catch (error) {
    if (!(error instanceof EpsilonflowError) || error.code !== 'BUDGET_REFUSED') throw error;
  }
}
await ledger.close();
process.stdout.write(JSON.stringify({ asked, admitted }));
