/**
 * @file Boundaries between two steps that a crash may fall between. `EPSILONFLOW_FAILPOINT=NAME` or `NAME#COUNT` ends
 * the process with SIGKILL when it gets there, the COUNT-th time: tests see what a crash there does. Otherwise nothing
 * happens, at the cost of a comparison.
 *
 * Names have the form `OPERATION: WHAT IS DONE`.
 */

type Watcher = (boundary: string) => void;

let watcher: Watcher | null = killerAt(process.env['EPSILONFLOW_FAILPOINT']);
let operation = 'open';

function killerAt(setting: string | undefined): Watcher | null {
  if (!setting) return null;
  const [name, count = '1'] = setting.split('#');
  let left = Number(count);
  return (boundary) => {
    if (boundary !== name) return;
    left -= 1;
    if (left === 0) process.kill(process.pid, 'SIGKILL');
  };
}

/** For tests whose processes do one thing after another: calls `watch` at each boundary from now on. */
export function watchFailpoints(watch: Watcher): void {
  watcher = watch;
}

export function failpoint(boundary: string): void {
  if (watcher === null) return;
  operation = boundary.slice(0, boundary.indexOf(':'));
  watcher(boundary);
}

/** A database's log, of which only statements that changed something are boundaries: reading leaves all as it is. */
export function logStatement({ level, query: { sql } }: { level: string; query: { sql: string } }): void {
  if (watcher === null || level !== 'query') return;
  const [, verb, table = ''] = /^(insert into|update|delete from|create|alter|drop)(?: "(\w+)")?/.exec(sql) ?? [];
  if (verb !== undefined) watcher(`${operation}: ${`${verb} ${table}`.trim()}`);
}
