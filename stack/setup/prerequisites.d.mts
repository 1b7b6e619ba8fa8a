export interface Machine {
  platform: string;
  arch: string;
  glibc: string | null;
  node: string;
  /** Trimmed output of a command, or null when it fails. */
  run(command: string, parameters: string[]): string | null;
  freeBytes(): number;
  writable(): boolean;
}

export function atLeast(version: string, least: string): boolean;
export function thisMachine(): Machine;
export function findPython(machine?: Machine): { command: string; version: string } | null;
export function findCompiler(machine?: Machine): string | null;
export function missingPrerequisites(
  needs: { python: boolean; compiler: boolean; diskMegabytes: number },
  machine?: Machine,
): { problem: string; fix: string }[];
