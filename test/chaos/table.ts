/** @file What the long series of chaos trials prints. */

import type { Campaign } from './campaign.ts';
import { victims, type ServiceChaos } from './services.ts';
import type { TemporalCampaign } from './temporal.ts';

type Sums = Pick<Campaign, 'deaths' | 'spent' | 'charged' | 'underCounted' | 'overCounted' | 'ends' | 'seconds'>;

function linesOf(what: string, sums: Sums): string[] {
  const ends = Object.entries(sums.ends).map(([end, times]) => `${end} ${times}`);
  return [
    `${what}, ${sums.deaths} processes killed in ${sums.seconds.toFixed(0)} s; experiments ended: ${ends.join(', ')}.`,
    `  Uses of noise: ${sums.spent} spent, ${sums.charged} charged; under-counted ${sums.underCounted}, ` +
      `charged beyond what was in flight ${sums.overCounted}.`,
  ];
}

/** How often processes were killed, by boundary and database, and the sums. */
export function tableOf(campaign: Campaign, onTemporal: TemporalCampaign | null): string {
  const columns: Campaign['hits'] = { ...campaign.hits, ...(onTemporal && { Temporal: onTemporal.hits }) };
  const names = Object.keys(columns);
  const boundaries = [...new Set(Object.values(columns).flatMap((hits) => Object.keys(hits)))].sort();
  const width = Math.max(...boundaries.map(({ length }) => length));
  const row = (first: string, others: string[]): string => `| ${[first.padEnd(width), ...others].join(' | ')} |`;
  return [
    row('killed at', names),
    `| --- | ${names.map(() => '---:').join(' | ')} |`,
    ...boundaries.map((boundary) => {
      const cells = names.map((name) => String(columns[name]![boundary] ?? '-').padStart(name.length));
      return row(boundary, cells);
    }),
    '',
    ...linesOf(`${campaign.trials} trials on SQL databases`, campaign),
    ...(onTemporal
      ? linesOf(
          `${onTemporal.experiments} experiments on a Temporal server, continued as new ${onTemporal.turns} times`,
          onTemporal,
        )
      : []),
  ].join('\n');
}

/** How often each service was killed, and how soon the run got on when it was there again. */
export function serviceTableOf({ experiments, kills, progressAfter, spent, charged, seconds }: ServiceChaos): string {
  const rows = victims.map((victim) => {
    const times = [...progressAfter[victim]].sort((a, b) => a - b);
    const at = (share: number): string => (times[Math.floor(share * (times.length - 1))]! / 1000).toFixed(1);
    return `| ${victim} | ${kills[victim]} | ${times.length > 0 ? `${at(0.5)} | ${at(1)}` : '- | -'} |`;
  });
  return [
    '',
    '| service | killed | progress after restart, median s | longest s |',
    '| --- | ---: | ---: | ---: |',
    ...rows,
    '',
    `${experiments} experiments in ${seconds.toFixed(0)} s. Uses of noise: ${spent} spent, ${charged} charged.`,
  ].join('\n');
}
