/**
 * A model, not a measurement, of a decode step of one sequence: bytes that must be read at a share
 * of the memory's peak, or instructions that must be issued if these take longer, and a gap between
 * kernels.
 */

export interface Gpu {
  name: string
  arch: number
  /** GB/s, peak. */
  bandwidth: number
  memoryGb: number
  multiprocessors: number
  /** GHz, boost. */
  clock: number
}

/** Peak bandwidths, sizes and clocks are those of the vendor's data sheets. */
export const gpus: readonly Gpu[] = [
  { name: 'A100 80GB', arch: 80, bandwidth: 2039, memoryGb: 80, multiprocessors: 108, clock: 1.41 },
  { name: 'H100 SXM', arch: 90, bandwidth: 3350, memoryGb: 80, multiprocessors: 132, clock: 1.83 },
  { name: 'RTX 4090', arch: 89, bandwidth: 1008, memoryGb: 24, multiprocessors: 128, clock: 2.52 },
  { name: 'L4', arch: 89, bandwidth: 300, memoryGb: 24, multiprocessors: 58, clock: 2.04 },
]

export interface Model {
  name: string
  layers: number
  hidden: number
  inner: number
  heads: number
  kvHeads: number
  vocabulary: number
}

export const models: readonly Model[] = [
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

/** Bits that a weight takes in memory, scales and zero points included. */
export const formats = {
  bf16: { bits: 16, kernel: (name: string) => `gemv_${name}_bf16` },
  int8: { bits: 8 + 16 / 128, kernel: (name: string) => `gemv_int8_${name}_g128_bf16` },
  int4: { bits: 4 + (16 + 8) / 128, kernel: (name: string) => `gemv_int4_${name}_g128_bf16` },
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

export function decodeStep(model: Model, format: Format, tokens = contextTokens): Work[] {
  const headDim = 128
  const { hidden, inner, layers } = model
  const { bits, kernel } = formats[format]
  const matrix = (name: string, variant: string, numbers: number): Work => {
    return { name, kernel: kernel(variant), times: layers, numbers, bytes: (numbers * bits) / 8 }
  }
  const kv = 2 * model.kvHeads * headDim * tokens
  const head = model.vocabulary * hidden
  return [
    matrix('qkv', 'qkv', (model.heads + 2 * model.kvHeads) * headDim * hidden),
    {
      name: 'attention',
      kernel: 'attention_decode_128_bf16',
      times: layers,
      numbers: kv,
      bytes: kv * 2,
    },
    matrix('o', 'residual', model.heads * headDim * hidden),
    matrix('gate+up', 'swiglu', 2 * inner * hidden),
    matrix('down', 'residual', inner * hidden),
    // The head stays in 16 bits in published quantised checkpoints.
    { name: 'lm_head', kernel: 'gemv_logits_bf16', times: 1, numbers: head, bytes: head * 2 },
  ]
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

/** `instructions` of a kernel for each number it reads, as far as known. */
export function predict(
  model: Model,
  format: Format,
  gpu: Gpu,
  instructions: (kernel: string) => number | undefined,
): Prediction {
  const works = decodeStep(model, format)
  // Embedding, and two kernels of sampling; the head is among the works.
  const others = 3
  const gap = gpu.arch >= 90 && gpu.arch !== 120 ? gaps.dependent : gaps.plain
  const issued = gpu.multiprocessors * 128 * gpu.clock * 1e3 // lane-instructions a microsecond
  let microseconds = others * gap
  let bytes = 0
  const instructionBound: string[] = []
  for (const work of works) {
    const reading = work.bytes / (gpu.bandwidth * assumedShare * 1e3)
    const issuing = (work.numbers * (instructions(work.kernel) ?? 0)) / issued
    if (issuing > reading) instructionBound.push(work.name)
    microseconds += work.times * (Math.max(reading, issuing) + gap)
    bytes += work.times * work.bytes
  }
  const floor = bytes / (gpu.bandwidth * 1e6)
  const milliseconds = microseconds / 1e3
  // A tenth for activations, buffers and what the driver keeps.
  const fits = bytes * 1.1 < gpu.memoryGb * 1e9
  return {
    model: model.name,
    format,
    gpu: gpu.name,
    fits,
    gigabytes: bytes / 1e9,
    floor,
    milliseconds,
    tokensPerSecond: 1e3 / milliseconds,
    shareOfPeak: floor / milliseconds,
    instructionBound,
  }
}

export function predictions(instructions: (kernel: string) => number | undefined): Prediction[] {
  return models.flatMap((model) =>
    (Object.keys(formats) as Format[]).flatMap((format) =>
      gpus.map((gpu) => predict(model, format, gpu, instructions)),
    ),
  )
}
