/** @file Public door of the compiler: YAML text to plan. */

export { type Compiled, compile, compileSpec, type CompileRequest, planDigest, refuseIfOverdrawn } from './compile.ts';
export type { AccountFigures, AccountRequest, CacheQuery, CompileHost, DatasetFindings } from './host.ts';
