/** @file The `epsilonflow` program: gathers the commands and turns wrong arguments into exit code 2. */

import { Command, CommanderError } from 'commander';

import { EpsilonflowError } from '../schemas/errors.ts';
import { programVersion } from '../tracking/program-version.ts';
import { exitCodeHelp, exitCodes, reportError } from './output.ts';
import { ledgerCommand } from './ledger.ts';
import { completionCommand } from './completion.ts';
import { doctorCommand } from './doctor.ts';
import { downCommand } from './down.ts';
import { explainCommand } from './explain.ts';
import { exportCommand } from './export.ts';
import { gcCommand } from './gc.ts';
import { initCommand } from './init.ts';
import { planCommand } from './plan.ts';
import { privacyCommand } from './privacy.ts';
import { upCommand } from './up.ts';
import { approveCommand } from './approve.ts';
import { cancelCommand } from './cancel.ts';
import { pauseCommand, resumeCommand } from './pause.ts';
import { logsCommand } from './logs.ts';
import { publishCommand } from './publish.ts';
import { releaseCommand } from './release.ts';
import { reportCommand } from './report.ts';
import { rerunCommand } from './rerun.ts';
import { retryCommand } from './retry.ts';
import { runCommand } from './run.ts';
import { scheduleCommand } from './schedule.ts';
import { statusCommand } from './status.ts';
import { validateCommand } from './validate.ts';
import { verifyCommand } from './verify.ts';
import { workerCommand } from './worker.ts';

/** Each adds its command to the program. Work is imported inside the actions, so that `--help` stays quick. */
const commands: ((program: Command) => void)[] = [
  initCommand,
  validateCommand,
  planCommand,
  workerCommand,
  privacyCommand,
  ledgerCommand,
  upCommand,
  downCommand,
  doctorCommand,
  cancelCommand,
  pauseCommand,
  resumeCommand,
  approveCommand,
  logsCommand,
  runCommand,
  retryCommand,
  rerunCommand,
  scheduleCommand,
  statusCommand,
  reportCommand,
  releaseCommand,
  exportCommand,
  verifyCommand,
  publishCommand,
  gcCommand,
  explainCommand,
  completionCommand,
];

/** The program with all its commands; it throws what commander would end the process for. */
export function buildProgram(): Command {
  const program = new Command('epsilonflow');
  program
    .description('Declarative, durable experiments with differentially private synthetic text.')
    .version(programVersion())
    .showSuggestionAfterError(true)
    .exitOverride()
    // Messages are printed once, by reportError, in the form of all other errors.
    .configureOutput({ outputError: () => undefined })
    .addHelpText('after', `${exitCodeHelp}\n\nEvery command has --help with an example, and --json.`);
  for (const register of commands) register(program);
  return program;
}

/** Turns what commander says into an error with a hint. */
function argumentError(error: CommanderError): EpsilonflowError {
  const [first = '', ...rest] = error.message.replace(/^error: /, '').split('\n');
  const guess = /\(Did you mean (.*)\?\)/.exec(rest.join(' '))?.[1];
  const hint = guess === undefined ? 'See "epsilonflow --help".' : `Did you mean ${guess}?`;
  return new EpsilonflowError('ARGUMENT_INVALID', first, { hint });
}

/** Runs the command line; sets the exit code and never throws. */
export async function main(args: string[]): Promise<void> {
  // A reader that has seen enough, such as `head`, is no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit();
  });
  const program = buildProgram();
  try {
    if (args.length === 0) program.outputHelp();
    else await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return;
      reportError(argumentError(error), args.includes('--json'));
      process.exitCode = exitCodes.wrong;
      return;
    }
    reportError(error, args.includes('--json'));
  }
}
