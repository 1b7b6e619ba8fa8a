/** @file Public door of audits: what a model or synthetic set tells of the records that it was made from. */

export { BigramModel } from './bigrams.ts';
export { exposure } from './exposure.ts';
export { membershipFigures } from './membership.ts';
export { auditOneRun, type OneRunAudit } from './one-run.ts';
