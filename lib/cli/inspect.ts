/** `qwen2-vl inspect <folder>`: what a checkpoint is and what it needs, read from its headers only. */
import { Command } from 'commander'
import pc from 'picocolors'
import { openCheckpoint, toNativeConfig, type Checkpoint } from '../checkpoint/checkpoint.js'
import { fromNativeError } from '../errors.js'
import { findModelFolder } from '../hub/find-model.js'
import { nativeBinding, type NativeTensorInfo } from '../native.js'
import { storedQuantizationOf, type StoredQuantization } from '../quantization.js'

/** What `inspect --json` prints. Bytes, except where the name says otherwise. */
interface Report {
  folder: string
  architecture: string
  parameters: { total: number; vision: number; language: number }
  dtypes: Record<string, number>
  /** Of an AWQ or GPTQ checkpoint. */
  quantization?: StoredQuantization
  tensors: number
  files: string[]
  tiedEmbeddings: boolean
  language: Record<string, number>
  vision: Record<string, number>
  contextSize: number
  memory: { weightBytes: number; kvBytesPerToken: number; kvBytesFullContext: number }
}

export function inspectCommand(): Command {
  return new Command('inspect')
    .description('Show architecture, sizes, data types and memory needs of a checkpoint folder')
    .argument('<folder>', 'checkpoint folder, a downloaded model (owner/name), or "tiny"')
    .option('--json', 'print the report as JSON')
    .action(inspect)
}

async function inspect(source: string, options: { json?: true }): Promise<void> {
  const checkpoint = await openCheckpoint(await findModelFolder(source, { offline: true }))
  const native = nativeBinding()
  const [tensors, sizes] = await Promise.all([
    native.readTensorTable(checkpoint.weightFiles),
    native.checkWeights(checkpoint.weightFiles, toNativeConfig(checkpoint)),
  ]).catch((error: unknown) => {
    throw fromNativeError(error)
  })
  const report = describe(checkpoint, tensors, sizes.numParameters)
  process.stdout.write(options.json ? JSON.stringify(report, null, 2) + '\n' : format(report))
}

function describe(checkpoint: Checkpoint, tensors: NativeTensorInfo[], total: number): Report {
  const { config } = checkpoint
  const count = (tensor: NativeTensorInfo) => tensor.shape.reduce((n, size) => n * size, 1)
  const isVision = (tensor: NativeTensorInfo) => /^(model\.)?visual\./.test(tensor.name)
  const vision = sum(tensors.filter(isVision).map(count))
  const dtypes: Record<string, number> = {}
  for (const tensor of tensors) dtypes[tensor.dtype] = (dtypes[tensor.dtype] ?? 0) + count(tensor)
  const quantization = storedQuantizationOf(config)
  const headDim = config.hiddenSize / config.numHeads
  // Keys and values of every layer in fp32, the default that keeps answers equal to the reference.
  const kvBytesPerToken = 2 * config.numLayers * config.numKvHeads * headDim * 4
  return {
    folder: checkpoint.folder,
    architecture: checkpoint.architecture,
    parameters: { total, vision, language: total - vision },
    dtypes,
    ...(quantization && { quantization }),
    tensors: tensors.length,
    files: [...new Set(tensors.map((tensor) => tensor.file))],
    tiedEmbeddings: config.tieWordEmbeddings,
    language: {
      layers: config.numLayers,
      hiddenSize: config.hiddenSize,
      intermediateSize: config.intermediateSize,
      heads: config.numHeads,
      kvHeads: config.numKvHeads,
      headDim,
      vocabSize: config.vocabSize,
    },
    vision: {
      blocks: config.vision.depth,
      width: config.vision.embedDim,
      heads: config.vision.numHeads,
      minPixels: checkpoint.preprocessor.minPixels,
      maxPixels: checkpoint.preprocessor.maxPixels,
    },
    contextSize: config.maxPositionEmbeddings,
    memory: {
      weightBytes: sum(tensors.map((tensor) => tensor.bytes)),
      kvBytesPerToken,
      kvBytesFullContext: kvBytesPerToken * config.maxPositionEmbeddings,
    },
  }
}

function format(report: Report): string {
  const { parameters, memory, quantization } = report
  const entries = (fields: Record<string, number>) =>
    Object.entries(fields)
      .map(([name, value]) => `${name} ${value.toLocaleString('en')}`)
      .join(', ')
  const rows: [string, string][] = [
    ['architecture', report.architecture],
    [
      'parameters',
      `${millions(parameters.total)} (language ${millions(parameters.language)}, vision ${millions(parameters.vision)})`,
    ],
    [
      'stored as',
      Object.entries(report.dtypes)
        .map(([dtype, n]) => `${dtype} ${millions(n)}`)
        .join(', '),
    ],
    ...(quantization ? [quantizedRow(quantization)] : []),
    [
      'tensors',
      `${report.tensors} in ${report.files.length} file${report.files.length === 1 ? '' : 's'}`,
    ],
    ['language', entries(report.language) + (report.tiedEmbeddings ? ', tied embeddings' : '')],
    ['vision', entries(report.vision)],
    ['context', `${report.contextSize.toLocaleString('en')} tokens`],
    [
      'memory',
      `weights ${bytes(memory.weightBytes)}, KV cache ${bytes(memory.kvBytesPerToken)} a token, ${bytes(memory.kvBytesFullContext)} at full context`,
    ],
  ]
  // picocolors takes CI for a terminal; a pipe gets plain text there too.
  const { bold } = pc.createColors(process.stdout.isTTY ? pc.isColorSupported : false)
  return rows.map(([name, value]) => `${bold(name.padEnd(14))}${value}\n`).join('')
}

function quantizedRow({ method, bits, groupSize }: StoredQuantization): [string, string] {
  const groups = groupSize === -1 ? 'a scale for a row' : `a scale for ${groupSize} inputs`
  return ['quantised', `the decoder's layers: ${method.toUpperCase()}, ${bits} bits, ${groups}`]
}

const sum = (values: number[]) => values.reduce((total, value) => total + value, 0)

const millions = (count: number) =>
  `${(count / 1e6).toLocaleString('en', { maximumFractionDigits: 2 })} M`

function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB']
  let unit = 0
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024
    ++unit
  }
  return `${count.toLocaleString('en', { maximumFractionDigits: 2 })} ${units[unit]}`
}
