/**
 * @file What hosts that share a store tell each other of a run: lines of event logs and progress as they are, which have
 * passed the door, and sealed what steps wrote, which may quote records.
 */

import { inParallel } from '../schemas/in-parallel.ts';
import { hostName } from './host-name.ts';
import type { ObjectStorage, StoredObject } from './objects.ts';
import { seal, unseal } from './sealing.ts';

interface NamedRun {
  name: string;
  number: number;
}

/** From where to where in a host's event log, bytes. */
export interface LogRange {
  start: number;
  end: number;
}

/** Lines of another host's event log. */
export interface Segment extends LogRange {
  host: string;
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
const nameOf = ({ start, end }: LogRange): string => `${padded(start)}-${padded(end)}`;

/** Segments that are read at a time. */
const readTogether = 8;

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
    const range = nameOf({ start, end: start + lines.length });
    await this.objects.put(`${folderOf(run)}/events/${this.host()}/${range}`, lines);
  }

  /**
   * What others sent since, of each host in the order of its log. Asks for names of hosts, and of each for new segments:
   * what a look costs does not grow with the log.
   *
   * @param seen by host, the last segment that is known
   */
  async eventsElsewhere(run: NamedRun, seen: Readonly<Record<string, LogRange>>): Promise<Segment[]> {
    const folder = `${folderOf(run)}/events/`;
    const own = this.host();
    const hosts = (await this.objects.folders(folder)).filter((host) => host !== own);
    const news = await inParallel(readTogether, hosts, async (host) => {
      const segments = await this.newSegments(`${folder}${host}/`, seen[host] ?? null);
      return segments.map((range) => ({ host, range }));
    });
    const read = await inParallel(readTogether, news.flat(), async ({ host, range }) => {
      const found = await this.objects.get(`${folder}${host}/${nameOf(range)}`);
      return found ? [{ host, ...range, lines: found.content }] : [];
    });
    return read.flat();
  }

  private async newSegments(folder: string, seen: LogRange | null): Promise<LogRange[]> {
    const list = async (after?: string): Promise<LogRange[]> =>
      (await this.objects.list(folder, after)).map(({ name }) => rangeOf(name.slice(folder.length)));
    if (seen === null) return (await list()).filter(({ end }) => end > 0);
    const later = await list(folder + nameOf(seen));
    // Two workers of one folder may send in turns: what one sent late has an earlier name.
    const all = hasGap(later, seen.end) ? await list() : later;
    // Lines are sent in their order: those of a segment that ends before are all known.
    return all.filter(({ end }) => end > seen.end);
  }

  async sendProgress(run: NamedRun, progress: string): Promise<void> {
    await this.objects.put(`${folderOf(run)}/progress/${this.host()}/now`, Buffer.from(progress));
  }

  async progressElsewhere(run: NamedRun): Promise<string[]> {
    const told = await this.elsewhere(run, 'progress');
    const found = await inParallel(readTogether, told, ({ name }) => this.objects.get(name));
    return found.flatMap((object) => (object ? [object.content.toString('utf8')] : []));
  }

  /** What was expected of a run when it started, for hosts that it was not started on. */
  async sendEstimate(run: NamedRun, estimate: string): Promise<void> {
    await this.objects.put(`${folderOf(run)}/estimate`, Buffer.from(estimate));
  }

  /** Null where none was sent. */
  async estimate(run: NamedRun): Promise<string | null> {
    return (await this.objects.get(`${folderOf(run)}/estimate`))?.content.toString('utf8') ?? null;
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
    what: 'progress' | 'steps',
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

function rangeOf(name: string): LogRange {
  const [start = 0, end = 0] = name.split('-').map(Number);
  return { start, end };
}

/** Whether lines are missing between what is known and the segments, which are in the order of their names. */
function hasGap(segments: readonly LogRange[], known: number): boolean {
  let reached = known;
  for (const { start, end } of segments) {
    if (start > reached) return true;
    reached = Math.max(reached, end);
  }
  return false;
}
