/** @file What a spec says of how its runs share workers. */

import type { Resource, Scheduling } from '../schemas/scheduling.ts';
import { partOf } from './spec-schema.ts';
import { numberOf } from './resources.ts';
import { entriesOf, type Source } from './source.ts';

export function readScheduling(root: Source): Scheduling {
  const priority = numberOf(partOf(root, 'priority'));
  const limits = entriesOf(partOf(root, 'limits')).map(([resource, { value }]) => [resource, numberOf(value)]);
  return {
    ...(priority === undefined ? {} : { priority }),
    ...(limits.length === 0 ? {} : { limits: Object.fromEntries(limits) as Partial<Record<Resource, number>> }),
  };
}
