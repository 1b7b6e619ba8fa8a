/**
 * @file What hosts that share a store tell each other of a run: lines of event logs and progress as they are, which have
 * passed the door, and sealed what steps wrote, which may quote records.
 */

import { hostName } from './host-name.ts';
import type { ObjectStorage, StoredObject } from './objects.ts';
import { seal, unseal } from './sealing.ts';

interface NamedRun {
  name: string;
  number: number;
}

/** Lines of another host's event log. */
export interface Segment {
  host: string;
  /** Bytes of that log up to the end of these lines. */
  end: number;
  lines: Buffer;
}

export interface StepLog {
  host: string;
  slug: string;
  text: string;
}

const folderOf = ({ name, number }: NamedRun): string => `logs/${name}/${number}`;

/** So that names sort as numbers do. */
const padded = (bytes: number): string => String(bytes).padStart(12, '0');

export class SharedLogs {
  private readonly objects: ObjectStorage;
  private readonly hostFile: string;

  /** @param hostFile names this state folder */
  constructor(objects: ObjectStorage, hostFile: string) {
    this.objects = objects;
    this.hostFile = hostFile;
  }

  /** @param start where the lines begin in this host's log; all before was sent */
  async sendEvents(run: NamedRun, start: number, lines: Buffer): Promise<void> {
    const range = `${padded(start)}-${padded(start + lines.length)}`;
    await this.objects.put(`${folderOf(run)}/events/${this.host()}/${range}`, lines);
  }

  /** @param seen by host, bytes of its log that are known */
  async eventsElsewhere(run: NamedRun, seen: Readonly<Record<string, number>>): Promise<Segment[]> {
    const segments: Segment[] = [];
    for (const { name, host, rest } of await this.elsewhere(run, 'events')) {
      const end = Number(rest.split('-')[1]);
      // Lines are sent in their order: those of a segment that ends before are all known.
      if (!(end > (seen[host] ?? 0))) continue;
      const found = await this.objects.get(name);
      if (found) segments.push({ host, end, lines: found.content });
    }
    return segments;
  }

  async sendProgress(run: NamedRun, progress: string): Promise<void> {
    await this.objects.put(`${folderOf(run)}/progress/${this.host()}/now`, Buffer.from(progress));
  }

  async progressElsewhere(run: NamedRun): Promise<string[]> {
    const found = await Promise.all((await this.elsewhere(run, 'progress')).map(({ name }) => this.objects.get(name)));
    return found.flatMap((object) => (object ? [object.content.toString('utf8')] : []));
  }

  async sendStepLog(run: NamedRun, slug: string, text: Buffer): Promise<void> {
    const name = `${folderOf(run)}/steps/${this.host()}/${slug}`;
    await this.objects.put(name, await seal(name, text));
  }

  /** What does not open is left out. */
  async stepLogsElsewhere(run: NamedRun): Promise<StepLog[]> {
    const logs: StepLog[] = [];
    for (const { name, host, rest: slug } of await this.elsewhere(run, 'steps')) {
      const found = await this.objects.get(name);
      const text = found && (await unseal(name, found.content));
      if (text) logs.push({ host, slug, text: text.toString('utf8') });
    }
    return logs;
  }

  /** Runs of which there is anything, NAME/NUMBER. */
  async runs(): Promise<string[]> {
    const named = (await this.objects.list('logs/')).map(({ name }) => name.split('/').slice(1, 3).join('/'));
    return [...new Set(named)];
  }

  async remove(run: NamedRun): Promise<void> {
    await this.objects.remove((await this.objects.list(`${folderOf(run)}/`)).map(({ name }) => name));
  }

  private async elsewhere(
    run: NamedRun,
    what: 'events' | 'progress' | 'steps',
  ): Promise<(StoredObject & { host: string; rest: string })[]> {
    const prefix = `${folderOf(run)}/${what}/`;
    const own = this.host();
    return (await this.objects.list(prefix)).flatMap((object) => {
      const [host = '', rest = ''] = object.name.slice(prefix.length).split('/');
      return host === own ? [] : [{ ...object, host, rest }];
    });
  }

  private host(): string {
    return hostName(this.hostFile);
  }
}
