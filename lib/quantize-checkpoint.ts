/** Makes AWQ and GPTQ folders of plain ones: any fine-tuned model in 4 or 8 bits. */
import {
  copyFile,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { z } from 'zod'
import { openCheckpoint, toNativeConfig, type Checkpoint } from './checkpoint/checkpoint.js'
import type { JsonObject } from './checkpoint/files.js'
import {
  groupIndex,
  quantizationConfig,
  quantizedTensors,
  type LinearLayer,
} from './checkpoint/quantized-layout.js'
import { bytesOf, writeSafetensors, type PlannedTensor } from './checkpoint/safetensors-writer.js'
import { fromNativeError, InvalidArgumentError } from './errors.js'
import { parseOptions } from './generation/parse-options.js'
import { findModelFolder } from './hub/find-model.js'
import { nativeBinding, type NativeStoredQuantization, type NativeTensorInfo } from './native.js'

const optionsSchema = z.strictObject({
  /** `awq`: 4 bits with zero points; `gptq-int8`: 8 bits around zero. */
  format: z.enum(['awq', 'gptq-int8']),
  /** The folder to write, which must not exist. */
  out: z.string().min(1),
  /** Inputs that share a scale. Fewer lose less and take more bytes. Default: 128, as published. */
  groupSize: z.union([z.literal(32), z.literal(64), z.literal(128)]).optional(),
  /** Ends the work: it rejects with `signal.reason`, and nothing is left behind. */
  signal: z.instanceof(AbortSignal).optional(),
  /** Called after every tensor. */
  onProgress: z
    .custom<(progress: QuantizeProgress) => void>((value) => typeof value === 'function', {
      error: 'must be a function',
    })
    .optional(),
})

/** How far the work has come, in bytes of the checkpoint that is read. */
export interface QuantizeProgress {
  readBytes: number
  totalBytes: number
}

/**
 * How a checkpoint is quantised, and where to.
 *
 * @interface
 */
export type QuantizeCheckpointOptions = z.output<typeof optionsSchema>

/** What was written. */
export interface QuantizedCheckpoint {
  /** Absolute path. */
  folder: string
  /** How many matrices were quantised: seven of each layer of the decoder. */
  matrices: number
  /** Of the tensors, before and after. */
  sourceBytes: number
  weightBytes: number
}

/** The matrices that published checkpoints quantise, in the published and the newer naming. */
const QUANTIZED =
  /^model\.(?:language_model\.)?layers\.\d+\.(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)\.weight$/

/** What is read and written at a time of tensors that stay as they are. */
const PIECE_BYTES = 16 << 20

/**
 * Writes a checkpoint with the matrices of its decoder quantised, in the layout of the published AWQ and GPTQ ones:
 * rounded to nearest, with a scale for every output and group of inputs. All else is copied. The folder appears when it is
 * complete.
 *
 * @param source a folder, the id of a model of the hub that is in the cache, or `'tiny'`.
 * @throws InvalidArgumentError when `out` exists, or the checkpoint is quantised already.
 */
export async function quantizeCheckpoint(
  source: string | URL,
  options: QuantizeCheckpointOptions,
): Promise<QuantizedCheckpoint> {
  const checked = parseOptions(optionsSchema, options, {
    what: 'quantizeCheckpoint() options',
    example: "{ format: 'awq', out: './model-awq' }",
  })
  checked.signal?.throwIfAborted()
  const checkpoint = await openCheckpoint(await findModelFolder(source, { offline: true }))
  refuseQuantized(checkpoint)
  const folder = resolve(checked.out)
  await refuseExisting(folder)
  // Beside the folder, so that it can be renamed.
  const unfinished = join(dirname(folder), `.${process.pid}-${Date.now()}.unfinished`)
  await mkdir(unfinished, { recursive: true })
  try {
    const result = await quantizeInto(unfinished, checkpoint, checked)
    await refuseExisting(folder)
    await rename(unfinished, folder)
    return { folder, ...result }
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true })
    throw error
  }
}

function refuseQuantized({ folder, config }: Checkpoint): void {
  if (config.storedQuantization === undefined) return
  const { method, bits } = config.storedQuantization
  throw new InvalidArgumentError(
    `${folder} is quantised already (${method}, ${bits} bits). Start from the checkpoint in 16 or 32 bits.`,
    { path: 'source' },
  )
}

async function refuseExisting(folder: string): Promise<void> {
  const there = await stat(folder).catch(() => undefined)
  if (there === undefined) return
  throw new InvalidArgumentError(
    `${folder} exists, and nothing is overwritten. Name a new folder, or remove this one.`,
    { path: 'out' },
  )
}

/** A tensor of the source and what becomes of it. */
interface Conversion {
  from: NativeTensorInfo
  tensors: PlannedTensor[]
  layer?: LinearLayer
}

async function quantizeInto(
  folder: string,
  checkpoint: Checkpoint,
  { format: name, groupSize = 128, signal, onProgress }: QuantizeCheckpointOptions,
): Promise<Omit<QuantizedCheckpoint, 'folder'>> {
  const format: NativeStoredQuantization =
    name === 'awq'
      ? { method: 'awq', bits: 4, groupSize, zerosLessOne: false, needsGroupIndex: false }
      : { method: 'gptq', bits: 8, groupSize, zerosLessOne: true, needsGroupIndex: false }
  const table = await readTable(checkpoint)
  const conversions = table.map((from) => plan(from, format))
  const totalBytes = table.reduce((sum, { bytes }) => sum + bytes, 0)
  let readBytes = 0
  await copySmallFiles(checkpoint.folder, folder)
  await writeConfig(checkpoint.folder, folder, format)
  await writeSafetensors(folder, conversions, async function* (conversion) {
    signal?.throwIfAborted()
    yield* conversion.layer
      ? quantize(conversion.from, conversion.layer, format)
      : copy(conversion.from, signal)
    readBytes += conversion.from.bytes
    onProgress?.({ readBytes, totalBytes })
    signal?.throwIfAborted()
  })
  return {
    matrices: conversions.filter(({ layer }) => layer).length,
    sourceBytes: totalBytes,
    weightBytes: conversions.reduce(
      (sum, { tensors }) => tensors.reduce((bytes, tensor) => bytes + bytesOf(tensor), sum),
      0,
    ),
  }
}

/** The tensors in the order of the files, after all checks that loading would make. */
async function readTable(checkpoint: Checkpoint): Promise<NativeTensorInfo[]> {
  try {
    await nativeBinding().checkWeights(checkpoint.weightFiles, toNativeConfig(checkpoint))
    const table = await nativeBinding().readTensorTable(checkpoint.weightFiles)
    const fileOf = ({ file }: NativeTensorInfo) => checkpoint.weightFiles.indexOf(file)
    return table.sort((a, b) => fileOf(a) - fileOf(b) || a.offset - b.offset)
  } catch (error) {
    throw fromNativeError(error)
  }
}

function plan(from: NativeTensorInfo, format: NativeStoredQuantization): Conversion {
  const { name, dtype, shape } = from
  const [outFeatures, inFeatures] = shape
  if (!QUANTIZED.test(name) || outFeatures === undefined || inFeatures === undefined) {
    return { from, tensors: [{ name, dtype, shape }] }
  }
  const layer = { module: name.replace(/\.weight$/, ''), outFeatures, inFeatures }
  const unit = 32 / format.bits
  if (outFeatures % unit !== 0 || inFeatures % unit !== 0) {
    throw new InvalidArgumentError(
      `${name} has ${inFeatures} inputs and ${outFeatures} outputs, which do not fill words of ${unit} codes. ` +
        'Such a model cannot be stored in this format.',
      { path: 'format' },
    )
  }
  // Only GPTQ has a smaller last group.
  if (format.method === 'awq' && inFeatures % format.groupSize !== 0) {
    throw new InvalidArgumentError(
      `${name} has ${inFeatures} inputs, which are no whole number of groups of ${format.groupSize}. ` +
        'Give a smaller groupSize, 64 or 32.',
      { path: 'groupSize' },
    )
  }
  return { from, tensors: quantizedTensors(layer, format), layer }
}

const DTYPES: Readonly<Record<string, 'bf16' | 'fp16' | 'fp32'>> = {
  BF16: 'bf16',
  F16: 'fp16',
  F32: 'fp32',
}

async function* quantize(
  from: NativeTensorInfo,
  layer: LinearLayer,
  format: NativeStoredQuantization,
): AsyncGenerator<Uint8Array> {
  const data = await readBytes(from, 0, from.bytes)
  const dtype = DTYPES[from.dtype] ?? 'bf16' // which checkWeights() has made sure of
  const matrix = { data, dtype, rows: layer.outFeatures, cols: layer.inFeatures }
  let parts
  try {
    parts = await nativeBinding().quantizeMatrix(matrix, format)
  } catch (error) {
    const native = error as Error
    native.message = `${from.name}: ${native.message}`
    throw fromNativeError(native)
  }
  yield parts.qweight
  yield parts.qzeros
  yield parts.scales
  if (format.method === 'gptq') yield new Uint8Array(groupIndex(layer, format).buffer)
}

async function* copy(
  from: NativeTensorInfo,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  for (let done = 0; done < from.bytes; done += PIECE_BYTES) {
    signal?.throwIfAborted()
    yield await readBytes(from, done, Math.min(PIECE_BYTES, from.bytes - done))
  }
}

async function readBytes(
  { file, offset }: NativeTensorInfo,
  first: number,
  count: number,
): Promise<Uint8Array> {
  await using handle = await open(file, 'r')
  const bytes = Buffer.allocUnsafeSlow(count)
  for (let filled = 0; filled < count;) {
    const { bytesRead } = await handle.read(bytes, filled, count - filled, offset + first + filled)
    if (bytesRead === 0) throw new Error(`${file} became shorter while it was read`)
    filled += bytesRead
  }
  return new Uint8Array(bytes.buffer, 0, count)
}

/** All files of the folder itself but weights and what is written anew. */
async function copySmallFiles(from: string, to: string): Promise<void> {
  const left = /^config\.json$|\.safetensors$|\.safetensors\.index\.json$|\.(bin|pt|pth|gguf)$|^\./
  for (const name of await readdir(from)) {
    const info = await stat(join(from, name))
    if (info.isFile() && !left.test(name)) await copyFile(join(from, name), join(to, name))
  }
}

async function writeConfig(
  from: string,
  to: string,
  format: NativeStoredQuantization,
): Promise<void> {
  const json = JSON.parse(await readFile(join(from, 'config.json'), 'utf8')) as JsonObject
  const config = { ...json, quantization_config: quantizationConfig(format) }
  await writeFile(join(to, 'config.json'), JSON.stringify(config, null, 2) + '\n')
}
