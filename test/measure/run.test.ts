import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

import { epsilonflowJson, generatorStep, specHead, syntheticStep } from '../orchestration/tiny-experiment.ts';
import { worldOfTests } from '../orchestration/world-of-tests.ts';
import { readEvents } from '../../tracking/events.ts';
import { summariseRun } from '../../tracking/run-summary.ts';

interface Outcome {
  directory: string;
  links: { report: string };
  errors: { code: string; message: string; hint: string }[];
}

const world = worldOfTests();

const spec = (name: string, sensitivity: string, waive = ''): string => `${specHead(name, { sensitivity })}
steps:
${generatorStep()}${syntheticStep()}  nearness:
    uses: measure
    with: { synthetic: "\${{ steps.synthetic }}", real: weather, model: base, resamples: 10 }
${waive}`;
const waiver = 'waive: [{ name: measures, reason: cleared by the board }]\n';

describe('a run that measures its synthetic set', () => {
  it('shows every figure beside those of other test rows and of training rows', async () => {
    const file = world().write('near.yaml', spec('near', 'benchmark'));
    const { code, directory, links } = await epsilonflowJson<Outcome>(world(), 'run', file);
    expect(code).toBe(0);
    const { metrics } = summariseRun(readEvents(directory).events).nodes.get('nearness')!;
    // Twenty texts were made.
    expect(metrics).toMatchObject({ rows: 20, duplicatesCeiling: expect.any(Number) as number });
    expect(metrics['unigramDivergence']).toBeGreaterThan(metrics['unigramDivergenceCeiling']!);
    const report = readFileSync(links.report, 'utf8');
    expect(report).toContain('Nearness of the synthetic text');
    expect(report).toContain('last hidden states of the decoder base');
    expect(report).toContain(metrics['unigramDivergence']!.toFixed(3));
  }, 300_000);

  it('is refused on private records, with what to do about it, and goes through under the waiver', async () => {
    const refused = world().write('shut.yaml', spec('shut', 'private'));
    const { code, errors } = await epsilonflowJson<Outcome>(world(), 'run', refused);
    expect(code).toBe(2);
    expect(errors).toMatchObject([{ code: 'SPEC_PRIVACY', hint: expect.stringContaining('name: measures') as string }]);

    const waived = world().write('waived.yaml', spec('waived', 'private', waiver).replaceAll('weather', 'secret'));
    world().write('train.jsonl', lines(300, 'told in confidence'));
    world().write('test.jsonl', lines(60, 'whispered'));
    const run = await epsilonflowJson<Outcome>(world(), 'run', waived);
    expect(run.code).toBe(0);
    const { metrics } = summariseRun(readEvents(run.directory).events).nodes.get('nearness')!;
    expect(metrics).toHaveProperty('trigramDivergence');
    const { accounts } = await epsilonflowJson<{ accounts: { account: string; waivers: object[] }[] }>(
      world(),
      'ledger',
      'show',
    );
    for (const account of ['secret', 'secret/test']) {
      const { waivers } = accounts.find((each) => each.account === account)!;
      expect(waivers).toMatchObject([{ waiver: 'measures', reason: 'cleared by the board' }]);
    }
    expect(readFileSync(run.links.report, 'utf8')).toMatch(/measures \(“cleared by the board”\)/);
  }, 300_000);
});

const lines = (count: number, said: string): string =>
  Array.from({ length: count }, (_, row) =>
    JSON.stringify({ text: `${said} number ${row}`, label: row % 2 ? 'warm' : 'cold' }),
  ).join('\n');
