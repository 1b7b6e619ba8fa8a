/** @file What MLflow accepts as keys and values, and how much of it in one request. */

export interface MlflowMetric {
  key: string;
  value: number;
  /** Milliseconds since 1970. A metric equal in key, value, time and step is stored once. */
  timestamp: number;
  step: number;
}

export interface MlflowTag {
  key: string;
  value: string;
}

export interface MlflowBatch {
  metrics?: MlflowMetric[];
  params?: MlflowTag[];
  tags?: MlflowTag[];
}

/** A metric as the server wants it: JSON has no NaN or Infinity, so they go as strings. */
export interface WireMetric extends Omit<MlflowMetric, 'value'> {
  value: number | 'NaN' | 'Infinity' | '-Infinity';
}

export interface WireBatch {
  metrics: WireMetric[];
  params: MlflowTag[];
  tags: MlflowTag[];
}

/** Limits of MLflow 3's log-batch. The metrics leave room for 100 params and 100 tags below 1000 in all. */
const batchLimits = { metrics: 800, params: 100, tags: 100, key: 250, param: 6000, tag: 8000 };

/** Longest digest of a dataset input. */
const datasetDigestLength = 36;

/**
 * A key that the server takes and its pages show well: letters, digits and `_./ -`, at most 250 characters. Greek
 * letters are spelled, other characters become `_`, and path parts that mean something to a file system are avoided.
 */
export function cleanKey(key: string): string {
  const spelled = key.replace(/[\u03b1-\u03c9]/g, (letter) => greek[letter] ?? '_').replace(/[^\w./ -]/g, '_');
  const parts = spelled.split('/').filter((part) => part !== '' && part !== '.' && part !== '..');
  return parts.join('/').slice(0, batchLimits.key).trim() || '_';
}

const greek: Record<string, string> = {
  α: 'alpha',
  β: 'beta',
  δ: 'delta',
  ε: 'epsilon',
  λ: 'lambda',
  σ: 'sigma',
  τ: 'tau',
};

export const clipDigest = (digest: string): string => digest.slice(0, datasetDigestLength);

/** Nested parameters as flat ones: `method.rank` = 8, lists as JSON; in declaration order. */
export function flattenParams(params: object): Record<string, string> {
  const flat: Record<string, string> = {};
  const visit = (prefix: string, value: unknown): void => {
    if (value !== null && typeof value === 'object' && !Array.isArray(value)) {
      for (const [key, inner] of Object.entries(value)) visit(prefix === '' ? key : `${prefix}.${key}`, inner);
    } else if (value !== undefined) {
      flat[cleanKey(prefix)] = typeof value === 'string' ? value : JSON.stringify(value);
    }
  };
  visit('', params);
  return flat;
}

/** Splits what is to be logged into requests within the server's limits; keys cleaned, long values cut. */
export function splitBatch(batch: MlflowBatch): WireBatch[] {
  const metrics = (batch.metrics ?? []).map((metric) => ({
    ...metric,
    key: cleanKey(metric.key),
    value: Number.isFinite(metric.value) ? metric.value : (String(metric.value) as WireMetric['value']),
  }));
  const params = (batch.params ?? []).map(({ key, value }) => ({
    key: cleanKey(key),
    value: cut(value, batchLimits.param),
  }));
  const tags = (batch.tags ?? []).map(({ key, value }) => ({ key: cleanKey(key), value: cut(value, batchLimits.tag) }));
  const count = Math.max(
    Math.ceil(metrics.length / batchLimits.metrics),
    Math.ceil(params.length / batchLimits.params),
    Math.ceil(tags.length / batchLimits.tags),
  );
  return Array.from({ length: count }, (_, index) => ({
    metrics: part(metrics, index, batchLimits.metrics),
    params: part(params, index, batchLimits.params),
    tags: part(tags, index, batchLimits.tags),
  }));
}

const part = <T>(items: T[], index: number, size: number): T[] => items.slice(index * size, (index + 1) * size);

const cut = (text: string, length: number): string => (text.length <= length ? text : text.slice(0, length - 1) + '…');
