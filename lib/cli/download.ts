/** `qwen2-vl download <id>`: a model onto the disk, with progress on stderr and the folder on stdout. */
import { Command, Option } from 'commander'
import { downloadModel, type DownloadModelOptions } from '../hub/download-model.js'
import { integer } from './numbers.js'
import { progressPrinter } from './progress-bars.js'

interface DownloadCommandOptions {
  revision?: string
  cacheDir?: string
  source?: 'huggingface' | 'modelscope'
  endpoint?: string
  connections?: number
  offline?: true
  quiet?: true
}

export function downloadCommand(): Command {
  return new Command('download')
    .description('Download a model into the cache, which Python shares, and print its folder')
    .argument('<id>', 'owner/name, such as Qwen/Qwen2-VL-2B-Instruct')
    .option('--revision <name>', 'branch, tag or commit')
    .option('--cache-dir <folder>', 'default: HF_HUB_CACHE, else hub in HF_HOME')
    .addOption(
      new Option('--source <hub>', 'where it comes from').choices(['huggingface', 'modelscope']),
    )
    .option('--endpoint <url>', 'address of a mirror; default: HF_ENDPOINT, else the hub itself')
    .option('--connections <count>', 'requests at a time (default 8)', integer)
    .option('--offline', 'only look whether it is in the cache, complete')
    .option('-q, --quiet', 'no progress')
    .addHelpText(
      'after',
      '\nAn access token for private and gated models is taken from HF_TOKEN, or from the file that\n' +
        '`hf auth login` writes. A download that is interrupted goes on where it ended.\n' +
        `\nExample:\n  $ qwen2-vl ask --model "$(qwen2-vl download Qwen/Qwen2-VL-2B-Instruct)" cat.jpg "What is this?"`,
    )
    .action(run)
}

async function run(id: string, options: DownloadCommandOptions): Promise<void> {
  const controller = new AbortController()
  const interrupt = () => controller.abort()
  process.once('SIGINT', interrupt)
  process.once('SIGTERM', interrupt)
  const { quiet, ...rest } = options
  const printer = quiet ? undefined : progressPrinter(process.stderr, id)
  const given: DownloadModelOptions = { ...rest, signal: controller.signal }
  try {
    const { folder } = await downloadModel(id, {
      ...given,
      ...(printer && { onProgress: printer.show }),
    })
    printer?.end()
    process.stdout.write(`${folder}\n`)
  } catch (error) {
    printer?.end()
    throw error
  } finally {
    process.off('SIGINT', interrupt)
    process.off('SIGTERM', interrupt)
  }
}
