/**
 * @file Places where a test may end this process at once, to see what a crash there does. `EPSILONFLOW_FAILPOINT`
 * names one; without it, nothing happens.
 */

type Failpoint = 'published' | 'begun';

export function failpoint(name: Failpoint): void {
  if (process.env['EPSILONFLOW_FAILPOINT'] === name) process.kill(process.pid, 'SIGKILL');
}
