/** `qwen2-vl bench`: the speed of a model on this machine, beside what the machine allows. */
import { writeFile } from 'node:fs/promises'
import { Command, Option } from 'commander'
import { runBench, type KernelBench } from '../bench/bench.js'
import {
  ensureRandomCheckpoint,
  presetBytes,
  presetNames,
  randomCheckpointFolder,
  type PresetName,
} from '../bench/random-checkpoint.js'
import type { LoadOptions } from '../bench/model-rows.js'
import { drawRoofline } from '../bench/roofline.js'
import { formatTable } from '../bench/table.js'
import { integer } from './numbers.js'
import { addWeightOptions, weightOptions, type WeightOptions } from './weight-options.js'

interface BenchCliOptions extends WeightOptions {
  model?: string
  preset: PresetName
  filter: string
  quick?: true
  device?: LoadOptions['device']
  threads?: number
  json?: true
  svg?: string
}

/** @param benchKernels measures the kernels alone too, where the native benchmark can be built. */
export function benchCommand(benchKernels?: KernelBench): Command {
  const command = new Command('bench')
    .description(
      'Measure load, pictures, prefill, decode and memory beside the limits of this machine or GPU',
    )
    .option('-m, --model <folder>', 'checkpoint folder, or "tiny" for the bundled one')
    .addOption(
      new Option(
        '--preset <size>',
        'without --model: a checkpoint of this size with random weights',
      )
        .choices(presetNames)
        .default('2b'),
    )
    .option('--filter <text>', 'only rows whose name has this text', '')
    .option('--quick', 'each row once, and only some of them')
    .option('--device <device>', 'auto, cpu, cuda or cuda:<number>; default: auto')
    .option('--threads <count>', 'default: the physical cores of this process', integer)
    .option('--json', 'print the report as JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  $ qwen2-vl bench --quick\n  $ qwen2-vl bench --model ./Qwen2-VL-2B-Instruct\n' +
        '  $ qwen2-vl bench --preset 7b --filter decode --json',
    )
    .action((options: BenchCliOptions) => bench(options, benchKernels))
  addWeightOptions(command)
  if (benchKernels) command.option('--svg <file>', 'draw the kernels below the roofline')
  return command
}

async function bench(options: BenchCliOptions, benchKernels?: KernelBench): Promise<void> {
  const { preset, filter, quick = false, svg } = options
  const model = options.model ?? (await randomCheckpoint(preset))
  const { device, threads } = options
  const load = { device, threads, ...weightOptions(options) }
  const report = await runBench({ model, filter, quick, load }, benchKernels)
  process.stdout.write(options.json ? JSON.stringify(report, null, 2) + '\n' : formatTable(report))
  if (svg !== undefined) await writeFile(svg, drawRoofline(report))
}

/** The folder of a preset's checkpoint, which is made at its first use. */
async function randomCheckpoint(preset: PresetName): Promise<string> {
  const folder = randomCheckpointFolder(preset)
  await ensureRandomCheckpoint(folder, preset, () => {
    const size = `${(presetBytes(preset) / 1e9).toFixed(1)} GB`
    process.stderr.write(`Writing ${size} of random weights to ${folder}\n`)
  })
  return folder
}
