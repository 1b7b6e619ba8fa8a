import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

import { experimentsCharged, worldOfTests } from '../orchestration/world-of-tests.ts';
import { epsilonflowJson, generatorStep, specHead, syntheticStep } from '../orchestration/tiny-experiment.ts';
import { readEvents } from '../../tracking/events.ts';
import { summariseRun } from '../../tracking/run-summary.ts';

interface Outcome {
  directory: string;
  links: { report: string };
}

const world = worldOfTests();

const spec = `${specHead('audited')}
steps:
${generatorStep()}${syntheticStep()}  audited:
    uses: audit
    with:
      synthetic: "\${{ steps.synthetic }}"
      canaries: 100
      repetitions: [1, 20]
      repeated: 3
      candidates: 127
      samples: 20
      rows: 50
`;

describe('a run that audits its synthetic set', () => {
  it('trains once more with canaries, charges that, and reports what can be got back', async () => {
    const file = world().write('audited.yaml', spec);
    const { code, directory, links } = await epsilonflowJson<Outcome>(world(), 'run', file);
    expect(code).toBe(0);
    const { metrics } = summariseRun(readEvents(directory).events).nodes.get('audited')!;
    expect(metrics).toMatchObject({ steps: 6, rows: 50, epsilonBound: expect.any(Number) as number });
    expect(metrics['epsilonBound']).toBeLessThanOrEqual(metrics['epsilonClaimed']!);
    expect(metrics['exposure20']).toBeGreaterThanOrEqual(0);
    expect(metrics['exposure20']).toBeLessThanOrEqual(7);
    expect(metrics['modelArea']).toBeGreaterThan(0);
    const report = readFileSync(links.report, 'utf8');
    expect(report).toContain('What can be got back');
    expect(report).toContain('the synthetic set alone');
    const [charged] = await experimentsCharged();
    expect(charged).toMatchObject({ entries: { committed: 2, begun: 0 } });
  }, 300_000);
});
