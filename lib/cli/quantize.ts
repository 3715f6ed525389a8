/** `qwen2-vl quantize <folder>`: a checkpoint in 4 or 8 bits, in the layout of the published ones. */
import { Command, Option } from 'commander'
import pc from 'picocolors'
import { quantizeCheckpoint, type QuantizeProgress } from '../quantize-checkpoint.js'
import { integer } from './numbers.js'

interface QuantizeOptions {
  format: 'awq' | 'gptq-int8'
  out: string
  groupSize?: 32 | 64 | 128
}

export function quantizeCommand(): Command {
  return new Command('quantize')
    .description('Write a checkpoint with its decoder in 4 or 8 bits, as AWQ and GPTQ store it')
    .argument('<folder>', 'checkpoint folder, a downloaded model (owner/name), or "tiny"')
    .addOption(
      new Option('--format <name>', '4 bits with zero points, or 8 bits')
        .choices(['awq', 'gptq-int8'])
        .makeOptionMandatory(),
    )
    .requiredOption('--out <folder>', 'where to; must not exist')
    .option('--group-size <count>', 'inputs that share a scale: 32, 64 or 128 (default)', integer)
    .addHelpText(
      'after',
      '\nExample:\n  $ qwen2-vl quantize ./my-fine-tune --format awq --out ./my-fine-tune-awq',
    )
    .action(quantize)
}

async function quantize(source: string, options: QuantizeOptions): Promise<void> {
  const controller = new AbortController()
  const interrupt = () => controller.abort()
  process.once('SIGINT', interrupt)
  const isTerminal = process.stderr.isTTY
  try {
    const { folder, sourceBytes, weightBytes } = await quantizeCheckpoint(source, {
      ...options,
      signal: controller.signal,
      ...(isTerminal && { onProgress: printProgress }),
    })
    if (isTerminal) process.stderr.write('\r\x1b[K')
    const megabytes = (bytes: number) =>
      (bytes / 1e6).toLocaleString('en', { maximumFractionDigits: 1 })
    process.stderr.write(`${megabytes(sourceBytes)} MB became ${megabytes(weightBytes)} MB\n`)
    process.stdout.write(`${folder}\n`)
  } finally {
    process.off('SIGINT', interrupt)
  }
}

function printProgress({ readBytes, totalBytes }: QuantizeProgress): void {
  const percent = Math.floor((100 * readBytes) / Math.max(totalBytes, 1))
  process.stderr.write(`\r\x1b[K${pc.dim(`quantising ${percent} %`)}`)
}
