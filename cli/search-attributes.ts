/** @file What a run is found by in Temporal. */

import type { Client } from '@temporalio/client';
import type { SearchAttributePair } from '@temporalio/common';
import { facetsOf, togetherOf } from '../schemas/facets.ts';
import type { Plan } from '../schemas/plan.ts';
import { attributesOf, searchAttributes } from '../workflows/search-attributes.ts';

/** As Temporal's API numbers them. */
const typeNumbers = { KEYWORD: 2, KEYWORD_LIST: 7 } as const;

/** None where the server does not know them, or does not say: runs do without. */
export async function attributesOfRun(client: Client, plan: Plan): Promise<SearchAttributePair[]> {
  if (!(await knowsAttributes(client))) return [];
  const { name: experiment, digest: planDigest, nodes } = plan;
  return attributesOf({
    ...{ experiment, planDigest },
    ...togetherOf(facetsOf(plan).values()),
    steps: nodes.map(({ step }) => step),
  });
}

async function knowsAttributes({ connection, options }: Client): Promise<boolean> {
  try {
    const { namespace } = options;
    const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
    return Object.values(searchAttributes).every(({ name, type }) => customAttributes[name] === typeNumbers[type]);
  } catch {
    return false;
  }
}
