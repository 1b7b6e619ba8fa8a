import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { run as compare } from '../../activities/compare.ts';
import { tInterval, wilsonInterval } from '../../measures/index.ts';
import type { OpenedArtifact } from '../../schemas/artifact.ts';
import type { PlanNode } from '../../schemas/plan.ts';
import { recordingContext } from './step-of-tests.ts';

let folder: string;
let count = 0;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'compare step '));
});
afterAll(() => rm(folder, { recursive: true }));

describe('compare', () => {
  const result = (accuracy: number): OpenedArtifact =>
    ({
      nodeId: `result ${accuracy}`,
      manifest: { metrics: { accuracy, macroF1: accuracy - 0.1, majority: 0.6, testRecords: 500 } },
    }) as unknown as OpenedArtifact;

  async function compared(
    metric: 'accuracy' | 'macro-f1',
    artifacts: Record<string, OpenedArtifact[]>,
  ): Promise<{ metrics: Record<string, number>; file: Record<string, unknown> }> {
    const outputDirectory = join(folder, `comparison-${(count += 1)}`);
    await mkdir(outputDirectory);
    const node = { id: 'comparison', params: { metric, over: ['seed'] } } as unknown as PlanNode<'compare'>;
    const rest = { datasets: {}, models: {}, checkpointDirectory: folder, noiseKeyFile: null, datasetSecret: null };
    const { metrics } = await compare({ node, artifacts, outputDirectory, ...rest }, recordingContext());
    const file = JSON.parse(await readFile(join(outputDirectory, 'comparison.json'), 'utf8')) as Record<
      string,
      unknown
    >;
    return { metrics, file };
  }

  it('gives mean, deviation, the t interval over seeds and the gap to the ceiling', async () => {
    const values = [0.8, 0.82, 0.84];
    const { metrics, file } = await compared('accuracy', {
      'arms.real-dp': values.map(result),
      'arms.synthetic': [result(0.7)],
      ceiling: [result(0.9)],
    });
    expect(metrics).toEqual({
      'real-dp': expect.closeTo(0.82, 12) as number,
      synthetic: 0.7,
      ceiling: 0.9,
      majority: 0.6,
    });
    const { arms, gaps } = file as { arms: Record<string, Record<string, unknown>>; gaps: Record<string, number> };
    expect(arms['real-dp']).toMatchObject({ n: 3, values, ...tInterval(values) });
    expect(arms['real-dp']!['sd']).toBeCloseTo(0.02, 12);
    expect(arms['synthetic']).toMatchObject({ n: 1, sd: 0, ...wilsonInterval(0.7, 500) });
    expect(gaps['real-dp']).toBeCloseTo(0.08, 12);
    expect(file).toMatchObject({ metric: 'accuracy', over: ['seed'], majority: expect.closeTo(0.6, 12) as number });
  });

  it('has no interval for one macro-F1, and refuses an empty table', async () => {
    const { file } = await compared('macro-f1', { 'arms.a': [result(0.7)] });
    expect(file['arms']).toMatchObject({ a: { low: null, high: null } });
    expect(file).not.toHaveProperty('ceiling');
    await expect(compared('accuracy', {})).rejects.toMatchObject({ code: 'STEP_FAILED' });
  });
});
