/** @file Which runs a shared store serves: numbers are given once for all hosts, and results that runs name are kept. */

import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { ObjectStorage } from './objects.ts';

/** A run as all hosts know it. */
export interface RegisteredRun {
  name: string;
  number: number;
  planDigest: string;
}

export interface RunRegistry {
  /** False when the number was given to another host. */
  claim(run: RegisteredRun): Promise<boolean>;
  /** Those of other hosts. */
  elsewhere(): Promise<RegisteredRun[]>;
  /** Takes back those of this host that are not among the given ones any more. */
  forgetBut(present: readonly Pick<RegisteredRun, 'name' | 'number'>[]): Promise<void>;
}

/** Where nothing is shared, run folders say all. */
export const noRegistry: RunRegistry = {
  claim: () => Promise.resolve(true),
  elsewhere: () => Promise.resolve([]),
  forgetBut: () => Promise.resolve(),
};

/** A run that was just claimed has no folder yet, milliseconds. */
const startTime = 3600_000;

const nameOf = ({ name, number }: Pick<RegisteredRun, 'name' | 'number'>): string => `runs/${name}/${number}.json`;

export class SharedRunRegistry implements RunRegistry {
  private readonly objects: ObjectStorage;
  private readonly ownerFile: string;

  /** @param ownerFile names this state folder; made when it is not there */
  constructor(objects: ObjectStorage, ownerFile: string) {
    this.objects = objects;
    this.ownerFile = ownerFile;
  }

  async claim(run: RegisteredRun): Promise<boolean> {
    const content = Buffer.from(JSON.stringify({ ...run, owner: this.owner() }));
    return (await this.objects.put(nameOf(run), content, 'absent')) !== null;
  }

  async elsewhere(): Promise<RegisteredRun[]> {
    const runs = await this.all();
    return runs.filter(({ owner }) => owner !== this.owner()).map(({ run }) => run);
  }

  async forgetBut(present: readonly Pick<RegisteredRun, 'name' | 'number'>[]): Promise<void> {
    const kept = new Set(present.map(nameOf));
    const gone = (await this.all()).filter(
      ({ run, owner, modified }) =>
        owner === this.owner() && !kept.has(nameOf(run)) && Date.now() - modified > startTime,
    );
    await this.objects.remove(gone.map(({ run }) => nameOf(run)));
  }

  private async all(): Promise<{ run: RegisteredRun; owner: string; modified: number }[]> {
    const found = [];
    for (const { name, modified } of await this.objects.list('runs/')) {
      const object = await this.objects.get(name);
      if (object === null) continue;
      const { owner, ...run } = JSON.parse(object.content.toString('utf8')) as RegisteredRun & { owner: string };
      found.push({ run, owner, modified });
    }
    return found;
  }

  private owner(): string {
    try {
      mkdirSync(dirname(this.ownerFile), { recursive: true });
      writeFileSync(this.ownerFile, randomBytes(8).toString('hex'), { flag: 'wx' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    return readFileSync(this.ownerFile, 'utf8');
  }
}
