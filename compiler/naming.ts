/** @file Names of instances: readable and stable ids, and slugs for systems that allow few characters. */

import { createHash } from 'node:crypto';

const longestId = 120;
const longestSlug = 100;
const ambiguous = /[^\w.+:@/-]/g;

const short = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 12);

/**
 * `step[axis=value,...]`, axes in the order of the spec; `step` alone when there are none. Characters in values that
 * would make it ambiguous become `_`; such an id, and one beyond 120 characters, ends in `~` and a digest.
 */
export function instanceId(step: string, axes: Record<string, string | number>): string {
  const entries = Object.entries(axes);
  if (entries.length === 0) return step.length <= longestId ? step : cut(step, step, longestId, '~');
  const cleaned = entries.map(([axis, value]) => `${axis}=${String(value).replaceAll(ambiguous, '_')}`);
  const id = `${step}[${cleaned.join(',')}]`;
  const isClean = entries.every(([, value]) => String(value).search(ambiguous) < 0);
  if (isClean && id.length <= longestId) return id;
  return cut(id, JSON.stringify([step, entries]), longestId, '~');
}

const cut = (text: string, identity: string, length: number, mark: string): string =>
  `${text.slice(0, length - 13)}${mark}${short(identity)}`;

/** Gives each id a slug of `[a-z0-9-]`, at most 100 characters; one that would repeat another gets a digest. */
export function slugger(): (id: string) => string {
  const taken = new Set<string>();
  return (id) => {
    const words =
      id
        .toLowerCase()
        .replaceAll(/[^a-z0-9]+/g, '-')
        .replaceAll(/^-|-$/g, '') || 'instance';
    const slug = words.length > longestSlug || taken.has(words) ? cut(words, id, longestSlug, '-') : words;
    taken.add(slug);
    return slug;
  };
}
