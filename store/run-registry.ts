/** @file Which runs a shared store serves: numbers are given once for all hosts, and results that runs name are kept. */

import { hostName } from './host-name.ts';
import type { ObjectStorage } from './objects.ts';

/** A run as all hosts know it. */
export interface RegisteredRun {
  name: string;
  number: number;
  planDigest: string;
  /** ISO 8601, UTC: with it the tracker knows the run, whoever publishes it. Absent for runs of old versions. */
  startedAt?: string;
  /** The spec as the run read it. */
  specText?: string;
  /** Present once it has ended. */
  ended?: true;
}

type NamedRun = Pick<RegisteredRun, 'name' | 'number'>;

export interface RunRegistry {
  /** False when the number was given to another host. */
  claim(run: RegisteredRun): Promise<boolean>;
  /** Null where hosts share nothing, or none of them knows it. */
  find(run: NamedRun): Promise<RegisteredRun | null>;
  /** Notes that a run has ended, whoever claimed it. */
  end(run: NamedRun): Promise<void>;
  /** Those of other hosts. */
  elsewhere(): Promise<RegisteredRun[]>;
  /** Those of all hosts. */
  all(): Promise<RegisteredRun[]>;
  /** Takes back those of this host that are not among the given ones any more. */
  forgetBut(present: readonly NamedRun[]): Promise<void>;
}

/** Where nothing is shared, run folders say all. */
export const noRegistry: RunRegistry = {
  claim: () => Promise.resolve(true),
  find: () => Promise.resolve(null),
  end: () => Promise.resolve(),
  all: () => Promise.resolve([]),
  elsewhere: () => Promise.resolve([]),
  forgetBut: () => Promise.resolve(),
};

/** A run that was just claimed has no folder yet, milliseconds. */
const startTime = 3600_000;

const nameOf = ({ name, number }: NamedRun): string => `runs/${name}/${number}.json`;

interface Entry {
  run: RegisteredRun;
  owner: string;
  etag: string;
}

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

  async find(run: NamedRun): Promise<RegisteredRun | null> {
    return (await this.read(nameOf(run)))?.run ?? null;
  }

  async end(run: NamedRun): Promise<void> {
    const found = await this.read(nameOf(run));
    if (found === null || found.run.ended) return;
    const content = Buffer.from(JSON.stringify({ ...found.run, ended: true, owner: found.owner }));
    await this.objects.put(nameOf(run), content, { etag: found.etag });
  }

  async elsewhere(): Promise<RegisteredRun[]> {
    const runs = await this.entries();
    return runs.filter(({ owner }) => owner !== this.owner()).map(({ run }) => run);
  }

  async all(): Promise<RegisteredRun[]> {
    return (await this.entries()).map(({ run }) => run);
  }

  async forgetBut(present: readonly NamedRun[]): Promise<void> {
    const kept = new Set(present.map(nameOf));
    const gone = (await this.entries()).filter(
      ({ run, owner, modified }) =>
        owner === this.owner() && !kept.has(nameOf(run)) && Date.now() - modified > startTime,
    );
    await this.objects.remove(gone.map(({ run }) => nameOf(run)));
  }

  private async entries(): Promise<(Entry & { modified: number })[]> {
    const found = [];
    for (const { name, modified } of await this.objects.list('runs/')) {
      const entry = await this.read(name);
      if (entry !== null) found.push({ ...entry, modified });
    }
    return found;
  }

  private async read(name: string): Promise<Entry | null> {
    const object = await this.objects.get(name);
    if (object === null) return null;
    const { owner, ...run } = JSON.parse(object.content.toString('utf8')) as RegisteredRun & { owner: string };
    return { run, owner, etag: object.etag };
  }

  private owner(): string {
    return hostName(this.ownerFile);
  }
}
