/** A process that reserves one workflow after another on one account; prints how many were admitted. */

import { openLedger } from '../../privacy/ledger/index.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { entry, envelope, registration } from './ledger-fixture.ts';

const [url, name, count, budget] = process.argv.slice(2);
const ledger = await openLedger(url!);
await ledger.register([registration()]);
let admitted = 0;
for (let i = 0; i < Number(count); i += 1) {
  try {
    await ledger.reserve(envelope(`${name}-${i}`, [entry(`node-${name}-${i}`)], Number(budget)));
    admitted += 1;
  } catch (error) {
    if (!(error instanceof EpsilonflowError) || error.code !== 'BUDGET_REFUSED') throw error;
  }
}
await ledger.close();
process.stdout.write(String(admitted));
