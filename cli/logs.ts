/** @file `epsilonflow logs`: what the processes of a run's steps wrote. Private: it stays on this machine. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { parseCount } from './arguments.ts';
import { action, printJson, printLine, styled } from './output.ts';

export function logsCommand(program: Command): void {
  program
    .command('logs')
    .description("Show what a run's steps wrote. Logs of private steps may quote records: keep them here.")
    .argument('<run>', 'NAME/NUMBER, NAME or latest')
    .argument('[instance]', 'id of an instance, or a step and some of its axes; without it, all')
    .option('--lines <count>', 'last lines of each', parseCount, 40)
    .option('--json', 'print JSON')
    .addHelpText('after', "\nExample:\n  epsilonflow logs latest 'generator[dataset=speeches,epsilon=8]'")
    .action(action(logs));
}

async function logs(
  reference: string,
  instance: string | undefined,
  options: { lines: number; json?: boolean },
): Promise<void> {
  const { resolveRun } = await import('../tracking/runs.ts');
  const { openStore } = await import('../store/index.ts');
  const { instancesNamed } = await import('../tracking/release/find-instance.ts');
  const { stepLogFolder } = await import('../activities/step-log.ts');
  const { record } = resolveRun(reference);
  const store = openStore();
  const plan = await store.loadPlan(record.planDigest);
  const folder = stepLogFolder(record.name, record.number);
  const present = new Set(existsSync(folder) ? readdirSync(folder) : []);
  const named = instance === undefined ? plan.nodes : instancesNamed(plan, instance);
  const found = named
    .filter(({ slug }) => present.has(`${slug}.log`))
    .map(({ id, slug }) => ({ node: id, file: join(folder, `${slug}.log`) }));
  const last = (text: string): string[] => text.trimEnd().split('\n').slice(-options.lines);
  const here = found.map(({ node, file }) => ({ node, file, lines: last(readFileSync(file, 'utf8')) }));
  const elsewhere = ((await store.logs?.stepLogsElsewhere(record)) ?? []).flatMap(({ slug, host, text }) =>
    named.flatMap(({ id, slug: own }) =>
      own === slug ? [{ node: id, file: `on host ${host}`, lines: last(text) }] : [],
    ),
  );
  const texts = [...here, ...elsewhere];
  if (options.json) return printJson({ logs: texts });
  if (texts.length === 0) return printLine('Nothing was written: reused instances and those that wait have no log.');
  for (const { node, file, lines } of texts) {
    printLine(`${styled('bold', node)} ${styled('dim', file)}`);
    for (const line of lines.filter(Boolean)) printLine(`  ${line}`);
  }
}
