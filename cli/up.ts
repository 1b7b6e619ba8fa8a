/** @file `epsilonflow up`: starts the local services and says where they answer. */

import type { Command } from 'commander';
import { action, printJson, printLine, styled } from './output.ts';

export function upCommand(program: Command): void {
  program
    .command('up')
    .description('Start the local Temporal and MLflow servers, unless variables name others.')
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExample:\n  epsilonflow up')
    .action(
      action(async ({ json }: { json?: boolean }) => {
        const { ensureServices } = await import('../stack/services.ts');
        const services = await ensureServices();
        if (json) {
          printJson(services);
          return;
        }
        const { temporal, mlflow, warnings } = services;
        printLine(`Temporal  ${temporal.address}${temporal.uiUrl === null ? '' : `  pages: ${temporal.uiUrl}`}`);
        if (mlflow !== null) printLine(`MLflow    ${mlflow.uri}`);
        for (const warning of warnings) printLine(styled('yellow', warning));
      }),
    );
}
