/** @file Public door of the compiler: YAML text to plan. */

export { type Compiled, compile, compileSpec, refuseIfOverdrawn } from './compile.ts';
export type { AccountFigures, AccountRequest, CacheQuery, CompileHost, DatasetFindings } from './host.ts';
