/** `qwen2-vl doctor`: what of the package works on this machine, and what is missing. */
import { Command, Option } from 'commander'
import pc from 'picocolors'
import { diagnose } from '../doctor/diagnose.js'
import type { Diagnosis, Finding, Status } from '../doctor/finding.js'
import { runProbe } from '../doctor/probe.js'

export function doctorCommand(): Command {
  return new Command('doctor')
    .description('Say what works on this machine, what is missing and why')
    .option('--json', 'print everything that was found as JSON')
    .addOption(new Option('--probe', 'in a process of its own').hideHelp())
    .addHelpText(
      'after',
      '\nEnds with code 1 where no model could answer. Warnings are about things that only some need.',
    )
    .action(doctor)
}

async function doctor({ json, probe }: { json?: true; probe?: true }): Promise<void> {
  if (probe) return runProbe((line) => process.stdout.write(line))
  const [, program = ''] = process.argv
  const diagnosis = await diagnose([...process.execArgv, program, 'doctor', '--probe'])
  process.stdout.write(json ? JSON.stringify(diagnosis, null, 2) + '\n' : format(diagnosis))
  if (!diagnosis.healthy) process.exitCode = 1
}

function format({ healthy, version, findings }: Diagnosis): string {
  // picocolors takes CI for a terminal; a pipe gets plain text there too.
  const colors = pc.createColors(process.stdout.isTTY ? pc.isColorSupported : false)
  const color: Readonly<Record<Status, (text: string) => string>> = {
    ok: colors.green,
    unused: colors.dim,
    warning: colors.yellow,
    error: colors.red,
  }
  const row = ({ topic, status, summary, remedy }: Finding) =>
    `${color[status](status.padEnd(8))}${colors.bold(topic.padEnd(11))}${summary}\n` +
    (remedy === undefined ? '' : `${' '.repeat(19)}${colors.dim(remedy)}\n`)
  const count = findings.filter(({ status }) => status === 'error').length
  const end = healthy
    ? 'Models can be loaded and asked.'
    : `${count} ${count === 1 ? 'thing is' : 'things are'} in the way of that a model answers.`
  return `qwen2-vl ${version}\n\n${findings.map(row).join('')}\n${end}\n`
}
