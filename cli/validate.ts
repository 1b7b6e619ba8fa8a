/** @file `epsilonflow validate`: every fault of a spec, with its place. */

import type { Command } from 'commander';

import type { CompileHost } from '../compiler/index.ts';
import { type EpsilonflowError, SpecFaults } from '../schemas/errors.ts';
import { action, printJson, printLine, styled } from './output.ts';

export function validateCommand(program: Command): void {
  program
    .command('validate')
    .description('Check a spec and its data: all faults at once, each with file, line and column.')
    .argument('<spec>', 'YAML file of the experiment')
    .option('--profile <name>', 'apply the overrides of a profile of the spec')
    .option('--inspect', 'also check the rows of private datasets; the output is then non-private')
    .option('--json', 'print {"errors": [...]}')
    .addHelpText('after', '\nExample:\n  epsilonflow validate experiments/quickstart.yaml')
    .action(
      action(async (spec: string, options: { profile?: string; inspect?: boolean; json?: boolean }) => {
        const { compileSpec } = await import('../compiler/index.ts');
        const { offlineHost } = await import('./compile-host.ts');
        const host = offlineHost({ inspectPrivate: options.inspect === true });
        const plan = await compileSpec({ file: spec, profile: options.profile }, host);
        if (options.profile === undefined) await validateProfiles(spec, host);
        if (options.json) printJson({ errors: [] });
        else
          printLine(
            `${styled('green', 'ok')} ${spec}: ${plan.nodes.length} ${plan.nodes.length === 1 ? 'instance' : 'instances'}`,
          );
      }),
    );
}

/** Every profile must make a sound spec too; a fault that several of them have is told once. */
async function validateProfiles(spec: string, host: CompileHost): Promise<void> {
  const { compileSpec, profilesOf } = await import('../compiler/index.ts');
  const faults = new Map<string, EpsilonflowError>();
  for (const profile of profilesOf(await host.readSpec(spec), spec)) {
    try {
      await compileSpec({ file: spec, profile }, host);
    } catch (error) {
      if (!(error instanceof SpecFaults)) throw error;
      for (const fault of error.faults) faults.set(JSON.stringify([fault.position, fault.message]), fault);
    }
  }
  if (faults.size > 0) throw new SpecFaults([...faults.values()]);
}
