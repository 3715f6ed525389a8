/**
 * A model, not a measurement, of a decode step of one sequence on a GPU: bytes that must be read at a share
 * of the memory's peak, or instructions that must be issued if these take longer, and a gap between
 * kernels.
 */
import { gpus, type Gpu } from './gpus.js'

/** Sizes of a decoder. */
export interface DecoderShape {
  layers: number
  hidden: number
  inner: number
  heads: number
  kvHeads: number
  vocabulary: number
}

export const models: readonly (DecoderShape & { name: string })[] = [
  {
    name: '2B',
    layers: 28,
    hidden: 1536,
    inner: 8960,
    heads: 12,
    kvHeads: 2,
    vocabulary: 151936,
  },
  {
    name: '7B',
    layers: 28,
    hidden: 3584,
    inner: 18944,
    heads: 28,
    kvHeads: 4,
    vocabulary: 152064,
  },
  {
    name: '72B',
    layers: 80,
    hidden: 8192,
    inner: 29568,
    heads: 64,
    kvHeads: 8,
    vocabulary: 152064,
  },
]

/** How a matrix is stored, and the kernels that read it. */
export interface StepFormat {
  /** That a weight takes in memory, scales and zero points included. */
  bits: number
  /** Of the product `qkv`, `residual`, `swiglu` or `logits`. */
  kernel: (product: string) => string
}

type Half = 'bf16' | 'fp16'

export function plain(type: Half = 'bf16'): StepFormat {
  return { bits: 16, kernel: (product) => `gemv_${product}_${type}` }
}

/** With a scale, and where there are any a zero point of so many bits, for every group of codes. */
export function quantized(
  codeBits: number,
  group: number,
  zeroBits: 0 | 8,
  type: Half = 'bf16',
): StepFormat {
  return {
    bits: codeBits + (16 + zeroBits) / group,
    kernel: (product) => `gemv_int${codeBits}_${product}_g${group}_${type}`,
  }
}

/** Those that the report compares. */
export const formats = {
  bf16: plain(),
  int8: quantized(8, 128, 0),
  int4: quantized(4, 128, 8),
} as const
export type Format = keyof typeof formats

/** Assumed: the share of a memory's peak that a kernel without other limits reaches. */
export const assumedShare = 0.92
/** Microseconds between kernels of a graph; with dependent launch, from sm_90 on, the second. */
export const gaps = { plain: 1.3, dependent: 0.5 } as const
export const contextTokens = 2048

/** What one kernel of a step reads. */
export interface Work {
  name: string
  kernel: string
  times: number
  /** Weights, or numbers of keys and values. */
  numbers: number
  bytes: number
}

/** @param head of the last product; quantised checkpoints as published leave it in 16 bits. */
export function decodeStep(
  shape: DecoderShape,
  format: StepFormat,
  tokens = contextTokens,
  head: StepFormat = plain(),
): Work[] {
  const { hidden, inner, layers, heads, kvHeads, vocabulary } = shape
  const matrix = (name: string, product: string, numbers: number): Work => ({
    ...{ name, kernel: format.kernel(product), times: layers },
    ...{ numbers, bytes: (numbers * format.bits) / 8 },
  })
  const headDim = hidden / heads
  const kv = 2 * kvHeads * headDim * tokens
  const logits = vocabulary * hidden
  return [
    matrix('qkv', 'qkv', (heads + 2 * kvHeads) * headDim * hidden),
    {
      name: 'attention',
      kernel: `attention_decode_${headDim}_bf16`,
      times: layers,
      numbers: kv,
      bytes: kv * 2,
    },
    matrix('o', 'residual', heads * headDim * hidden),
    matrix('gate+up', 'swiglu', 2 * inner * hidden),
    matrix('down', 'residual', inner * hidden),
    {
      ...{ name: 'lm_head', kernel: head.kernel('logits'), times: 1 },
      ...{ numbers: logits, bytes: (logits * head.bits) / 8 },
    },
  ]
}

/** Instructions of a kernel for each number that it reads, as far as they were counted. */
export type InstructionCounts = (kernel: string) => number | undefined

/** The modelled time of a step. */
export interface StepTime {
  seconds: number
  /** At the memory's peak with nothing else in the way. */
  floor: number
  bytes: number
  /** Kernels that instructions limit, not memory. */
  instructionBound: string[]
}

/** Of one kernel, with the gap behind it. */
export function kernelTime(
  { kernel, numbers, bytes }: Pick<Work, 'kernel' | 'numbers' | 'bytes'>,
  gpu: Gpu,
  instructions: InstructionCounts,
): { seconds: number; isInstructionBound: boolean } {
  const issued = gpu.multiprocessors * 128 * gpu.clock // instructions of lanes a second
  const reading = bytes / (gpu.bandwidth * assumedShare)
  const issuing = (numbers * (instructions(kernel) ?? 0)) / issued
  return {
    seconds: Math.max(reading, issuing) + gapOf(gpu),
    isInstructionBound: issuing > reading,
  }
}

function gapOf({ arch }: Gpu): number {
  return (arch >= 90 ? gaps.dependent : gaps.plain) * 1e-6
}

export function stepTime(
  works: readonly Work[],
  gpu: Gpu,
  instructions: InstructionCounts,
): StepTime {
  // Embedding, and two kernels of sampling; the head is among the works.
  const others = 3
  let seconds = others * gapOf(gpu)
  let bytes = 0
  const instructionBound: string[] = []
  for (const work of works) {
    const time = kernelTime(work, gpu, instructions)
    if (time.isInstructionBound) instructionBound.push(work.name)
    seconds += work.times * time.seconds
    bytes += work.times * work.bytes
  }
  return { seconds, floor: bytes / gpu.bandwidth, bytes, instructionBound }
}

export interface Prediction {
  model: string
  format: Format
  gpu: string
  fits: boolean
  /** GB read for a token. */
  gigabytes: number
  /** Milliseconds at the memory's peak with nothing else in the way. */
  floor: number
  milliseconds: number
  tokensPerSecond: number
  shareOfPeak: number
  /** Kernels that instructions limit, not memory. */
  instructionBound: string[]
}

export function predict(
  model: (typeof models)[number],
  format: Format,
  gpu: Gpu,
  instructions: InstructionCounts,
): Prediction {
  const works = decodeStep(model, formats[format])
  const { seconds, floor, bytes, instructionBound } = stepTime(works, gpu, instructions)
  return {
    ...{ model: model.name, format, gpu: gpu.name },
    // A tenth for activations, buffers and what the driver keeps.
    fits: bytes * 1.1 < gpu.memoryBytes,
    ...{ gigabytes: bytes / 1e9, floor: floor * 1e3, milliseconds: seconds * 1e3 },
    ...{ tokensPerSecond: 1 / seconds, shareOfPeak: floor / seconds, instructionBound },
  }
}

export function predictions(instructions: InstructionCounts): Prediction[] {
  return models.flatMap((model) =>
    (Object.keys(formats) as Format[]).flatMap((format) =>
      Object.values(gpus).map((gpu) => predict(model, format, gpu, instructions)),
    ),
  )
}
