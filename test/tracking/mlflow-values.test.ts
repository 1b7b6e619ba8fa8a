import { expect, it } from 'vitest';
import { cleanKey, clipDigest, flattenParams, splitBatch } from '../../tracking/mlflow/values.ts';

it('makes keys that the server takes of whatever a spec names', () => {
  expect(cleanKey('ε')).toBe('epsilon');
  expect(cleanKey('arms.real=dp, σ')).toBe('arms.real_dp_ sigma');
  expect(cleanKey('/a//../b')).toBe('a/b');
  expect(cleanKey('..')).toBe('_');
  expect(cleanKey('x'.repeat(300))).toHaveLength(250);
});

it('flattens parameters in their order', () => {
  const params = { method: { kind: 'lora', targets: ['q', 'k'] }, epsilon: 'inf', steps: 50, flag: false };
  expect(Object.entries(flattenParams(params))).toEqual([
    ['method.kind', 'lora'],
    ['method.targets', '["q","k"]'],
    ['epsilon', 'inf'],
    ['steps', '50'],
    ['flag', 'false'],
  ]);
});

it('splits what is too much for one request and loses nothing', () => {
  const metrics = Array.from({ length: 2001 }, (_, step) => ({ key: 'loss', value: step, timestamp: step, step }));
  const params = Array.from({ length: 150 }, (_, index) => ({ key: `p${index}`, value: 'v' }));
  const requests = splitBatch({ metrics, params });
  expect(requests.flatMap((request) => request.metrics.map(({ step }) => step))).toEqual(
    metrics.map(({ step }) => step),
  );
  expect(requests.flatMap((request) => request.params)).toHaveLength(150);
  for (const request of requests) {
    expect(request.params.length).toBeLessThanOrEqual(100);
    expect(request.metrics.length + request.params.length + request.tags.length).toBeLessThanOrEqual(1000);
  }
});

it('sends numbers that JSON lacks as words, and cuts what is too long', () => {
  const values = [NaN, Infinity, -Infinity, 0.5].map((value) => ({ key: 'loss', value, timestamp: 0, step: 0 }));
  expect(splitBatch({ metrics: values })[0]!.metrics.map(({ value }) => value)).toEqual([
    'NaN',
    'Infinity',
    '-Infinity',
    0.5,
  ]);
  expect(splitBatch({ params: [{ key: 'p', value: 'x'.repeat(7000) }] })[0]!.params[0]!.value).toHaveLength(6000);
  expect(clipDigest('a'.repeat(64))).toHaveLength(36);
});
