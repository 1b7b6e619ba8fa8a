/** @file `npm run bench -- NAME [--case C] [--quick]`: progress to stderr, one JSON object a line to stdout. */

import { parseArgs } from 'node:util';

import { accounting } from './accounting.ts';
import { benchRow, type Bench } from './bench-case.ts';
import { decontaminate } from './decontaminate.ts';
import { formats } from './formats.ts';
import { gpu } from './gpu.ts';
import { learning } from './learning.ts';
import { ledger } from './ledger.ts';
import { noise } from './noise.ts';
import { orchestration } from './orchestration.ts';

const benches: readonly Bench[] = [accounting, decontaminate, formats, gpu, learning, ledger, noise, orchestration];

const say = (text: string): void => {
  process.stderr.write(`${text}\n`);
};

/** Exit code: 0 when all cases were measured, whether or not they hold; 2 for wrong arguments. */
async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { case: { type: 'string' }, quick: { type: 'boolean', default: false } },
  });
  const bench = benches.find(({ name }) => name === positionals[0]);
  if (bench === undefined || positionals.length > 1) {
    say(`Usage: npm run bench -- NAME [--case C] [--quick]\nBenchmarks: ${benches.map(({ name }) => name).join(', ')}`);
    return 2;
  }
  const cases = bench.cases.filter(({ name }) => values.case === undefined || name === values.case);
  if (cases.length === 0) {
    say(`No case "${values.case}" in ${bench.name}; there are ${bench.cases.map(({ name }) => name).join(', ')}.`);
    return 2;
  }
  try {
    for (const each of cases) {
      say(`${bench.name} ${each.name} ...`);
      const row = benchRow(bench.name, each, await each.measure({ quick: values.quick, say }));
      process.stdout.write(`${JSON.stringify(row)}\n`);
      if (row.ratio !== null && row.goal !== null) say(row.ratio >= row.goal ? '  holds' : '  FALLS SHORT');
    }
  } finally {
    await bench.close?.();
  }
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  say(`error: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = error instanceof TypeError && 'code' in error ? 2 : 1;
}
