#!/usr/bin/env node
/** `qwen2-vl`: the command line over the public API. Answers go to stdout, everything else to stderr. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { Qwen2VLError } from '../errors.js'
import { packageRoot } from '../package-root.js'
import { askCommand } from './ask.js'
import { benchCommand } from './bench.js'
import { doctorCommand } from './doctor.js'
import { downloadCommand } from './download.js'
import { inspectCommand } from './inspect.js'
import { modelsCommand } from './models.js'
import { quantizeCommand } from './quantize.js'

const packageJson = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as {
  version: string
  description: string
}

// `qwen2-vl ask … | head` closes the pipe early: that is an end, not a failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})

const program = new Command('qwen2-vl')
  .description(packageJson.description)
  .version(packageJson.version)
  .showHelpAfterError()
  .addCommand(askCommand())
  .addCommand(downloadCommand())
  .addCommand(modelsCommand())
  .addCommand(inspectCommand())
  .addCommand(doctorCommand())
  .addCommand(quantizeCommand())
  .addCommand(benchCommand())

try {
  await program.parseAsync()
} catch (error) {
  if (error instanceof Error && error.name === 'AbortError') {
    process.exitCode = 130 // as a shell reports a program ended by Ctrl-C
  } else if (Qwen2VLError.isInstance(error)) {
    console.error(`qwen2-vl: ${error.message} [${error.code}]`)
    process.exitCode = 1
  } else {
    throw error
  }
}
