/** @file Hosts on one machine: each a network namespace that reaches this one by a cable of its own, which can be cut. */

import { spawnSync, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, connect, type Socket } from 'node:net';

const ip = (...parameters: string[]): void => {
  execFileSync('ip', parameters, { stdio: 'pipe' });
};

/** Whether this machine lets root make namespaces and cables. */
export function canSeparateNetworks(): boolean {
  const name = `ef-try-${process.pid}`;
  const made = spawnSync('ip', ['netns', 'add', name], { stdio: 'ignore' }).status === 0;
  if (made) spawnSync('ip', ['netns', 'del', name], { stdio: 'ignore' });
  return made;
}

export interface SeparateHost {
  /** What runs a command there: put before it. */
  enter: string[];
  /** The address by which it reaches services of this machine that `offer` names. */
  gateway: string;
  /** Lets it reach a port of 127.0.0.1 under the gateway's address. */
  offer(port: number): Promise<void>;
  cut(): void;
  mend(): void;
  remove(): void;
}

/** @param number of the host among those of this process, from 1 */
export async function separateHost(number: number): Promise<SeparateHost> {
  const id = `${process.pid}-${number}`;
  const [namespace, outside, inside] = [`ef-${id}`, `efo${id}`, `efi${id}`].map((name) => name.slice(0, 15));
  const net = `10.${100 + (process.pid % 100)}.${number}`;
  ip('netns', 'add', namespace!);
  ip('link', 'add', outside!, 'type', 'veth', 'peer', 'name', inside!);
  ip('link', 'set', inside!, 'netns', namespace!);
  ip('addr', 'add', `${net}.1/24`, 'dev', outside!);
  ip('link', 'set', outside!, 'up');
  ip('-n', namespace!, 'addr', 'add', `${net}.2/24`, 'dev', inside!);
  ip('-n', namespace!, 'link', 'set', inside!, 'up');
  ip('-n', namespace!, 'link', 'set', 'lo', 'up');
  const open = new Set<{ close(): unknown }>();
  return {
    enter: ['ip', 'netns', 'exec', namespace!],
    gateway: `${net}.1`,
    offer: async (port) => {
      const sockets = new Set<Socket>();
      const server = createServer((near) => {
        const far = connect(port, '127.0.0.1');
        for (const [one, other] of [
          [near, far],
          [far, near],
        ] as const) {
          sockets.add(one);
          one.pipe(other);
          one.on('error', () => other.destroy());
          one.on('close', () => {
            sockets.delete(one);
            other.destroy();
          });
        }
      }).listen(port, `${net}.1`);
      await once(server, 'listening');
      open.add(server).add({ close: () => sockets.forEach((socket) => socket.destroy()) });
    },
    cut: () => ip('link', 'set', outside!, 'down'),
    mend: () => ip('link', 'set', outside!, 'up'),
    remove: () => {
      for (const each of open) each.close();
      spawnSync('ip', ['link', 'del', outside!], { stdio: 'ignore' });
      spawnSync('ip', ['netns', 'del', namespace!], { stdio: 'ignore' });
    },
  };
}
