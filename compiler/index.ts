/** @file Public door of the compiler: YAML text to plan. */

export { plannedEpsilon } from './accounts.ts';
export { type Compiled, compile, compileSpec, refuseIfOverdrawn } from './compile.ts';
export { type CostDrivers, costDrivers, type ModelSize, type PublicSizes } from './costs.ts';
export { profilesOf } from './profile.ts';
export type {
  AccountContext,
  AccountFigures,
  AccountRequest,
  CacheQuery,
  CompileHost,
  DatasetFindings,
} from './host.ts';
export { isConsequence, type Miss, missesOf, missText } from './misses.ts';
export type { Overdraft } from './overdraft.ts';
