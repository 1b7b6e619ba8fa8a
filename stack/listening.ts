/** @file Who listens on a port of this machine, as Linux tells it. */

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** `socket:[INODE]` of the sockets that listen on the ports, by `/proc/net/tcp`, over IPv4. */
function listeningSockets(ports: readonly number[]): Map<number, string> {
  const sockets = new Map<number, string>();
  for (const line of readFileSync('/proc/net/tcp', 'latin1').trim().split('\n').slice(1)) {
    const [, address, , state, , , , , , inode] = line.trim().split(/\s+/);
    const port = parseInt(address!.slice(address!.indexOf(':') + 1), 16);
    if (state === '0A' && ports.includes(port)) sockets.set(port, `socket:[${inode}]`);
  }
  return sockets;
}

/** Whether processes of a group listen on all the ports. */
export function listensOn(group: number, ports: readonly number[]): boolean {
  const wanted = new Set(listeningSockets(ports).values());
  if (wanted.size < ports.length) return false;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    for (const socket of socketsOf(pid, group)) wanted.delete(socket);
  }
  return wanted.size === 0;
}

/** None when the process is of another group, or has ended. */
function socketsOf(pid: string, group: number): string[] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // State, parent and group follow the name, which may hold anything.
    if (Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[2]) !== group) return [];
    return readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
  } catch {
    return [];
  }
}
