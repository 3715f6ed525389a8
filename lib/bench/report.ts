/** What a benchmark reports: limits of the machine, and rows that stand beside them. */
import type { Quantization } from '../quantization.js'

/** What the machine or its GPU can do at most, measured beside the rows: bytes or operations a second. */
export interface Limit {
  /**
   * `read`, the memory bandwidth, or a kind of number and an instruction set: `fp32 avx2`. Of a GPU `memory`, `copy`
   * and `16-bit sm_90`.
   */
  name: string
  best: number
  median: number
  runs: number
}

/** What a run moves and computes at least. A multiply-add counts as two operations. */
export interface Work {
  bytes: number
  /** Operations on fp32 numbers; on a GPU on 16-bit ones that are summed in fp32. */
  fp32: number
  /** Operations on 8-bit integers. */
  int8: number
}

/** Of both kinds together. */
export function operationsOf({ fp32, int8 }: Work): number {
  return fp32 + int8
}

/** Times of runs, and the limits as they were between them: a machine's speed changes within minutes. */
export interface Timed {
  /** Of each run. */
  seconds: number[]
  limits: { name: string; rates: number[] }[]
}

/** What was measured, before it is compared with anything. */
export type Measurement = { section: 'kernels' | 'model'; name: string } & (
  | {
      timed: Timed
      unit: 's' | 'ms' | 'tokens/s' | 'GB/s' | 'GFLOP/s' | 'Gop/s'
      /** What of the unit a run does, where it is a rate: tokens, bytes or operations. */
      amount?: number
      work?: Work
      /** Work of the host, whose limits are not measured beside a GPU's. */
      isOfHost?: true
      /** Seconds that the kernels' model gives a run on this GPU. */
      modelled?: number
    }
  | { value: number; unit: 'GB' | 'ms'; fraction?: number; limit?: string }
)

export interface Row {
  section: 'kernels' | 'model'
  name: string
  unit: string
  best: number
  median: number
  runs: number
  /** Name of the limit that bounds the row. */
  limit?: string
  /** What the limit was taken to be, in bytes or operations a second. */
  limitRate?: number
  /** The shortest time that the limit allows, of the best run's time. */
  fraction?: number
  work?: Work
  /** What the model of docs/kernels.md gives for this GPU, in the row's unit. */
  modelled?: number
}

export interface Machine {
  /** Or the GPU. */
  processor: string
  /** Of the kernels: `avx2`, `avx512`, `sm_90`… */
  instructionSet: string
  threads: number
  /** The GPU is simulated: its times say nothing about any GPU. */
  isSimulated?: true
}

export interface Report extends Machine {
  package: string
  node: string
  /** The checkpoint, and what its weights were kept as. */
  model: { folder: string; parameters: number; weightBytes: number; dtype: string } & Quantization
  limits: Limit[]
  rows: Row[]
}

/** The best and the median of the rates of a limit. */
export function toLimit(name: string, rates: readonly number[]): Limit {
  return { name, best: Math.max(...rates), median: median(rates), runs: rates.length }
}

/**
 * A row: the best and the median figure, and how much the best is of what the limits allow. The bandwidth is
 * the best of the row's own time, as a machine's neighbours change it; the arithmetic stays as it is, and is
 * the median of the whole run.
 */
export function toRow(
  measurement: Measurement,
  runLimits: readonly Limit[],
  instructionSet: string,
): Row {
  const { section, name, unit } = measurement
  if ('value' in measurement) {
    const { value, fraction, limit } = measurement
    const comparison = { ...(fraction !== undefined && { fraction }), ...(limit && { limit }) }
    return { section, name, unit, best: value, median: value, runs: 1, ...comparison }
  }
  const { timed, amount = 1, work, isOfHost, modelled } = measurement
  const { seconds } = timed
  const figure = (time: number) =>
    scaled(unit, unit === 's' || unit === 'ms' ? time : amount / time)
  const limits = [
    ...timed.limits.map(({ name, rates }) => toLimit(name, rates)).filter(isBandwidth),
    ...runLimits.filter((limit) => !isBandwidth(limit)).map((l) => ({ ...l, best: l.median })),
  ]
  const bound = work && boundOf(work, limits, isOfHost ? '' : instructionSet)
  const best = Math.min(...seconds)
  return {
    ...{ section, name, unit, best: figure(best), median: figure(median(seconds)) },
    runs: seconds.length,
    ...(bound && {
      ...{ limit: bound.limit.name, limitRate: bound.limit.best, fraction: bound.seconds / best },
    }),
    ...(work && { work }),
    ...(modelled !== undefined && { modelled: figure(modelled) }),
  }
}

/** Of a processor, or of a GPU. */
const BANDWIDTHS = ['read', 'memory']

export function isBandwidth({ name }: Pick<Limit, 'name'>): boolean {
  return BANDWIDTHS.includes(name)
}

function isGpu(instructionSet: string): boolean {
  return instructionSet.startsWith('sm_')
}

interface Bound {
  limit: Limit
  seconds: number
}

/** The limit that the work meets first, and the time that it takes there. */
function boundOf(
  { bytes, fp32, int8 }: Work,
  limits: readonly Limit[],
  instructionSet: string,
): Bound | undefined {
  const name = isGpu(instructionSet) ? 'memory' : 'read'
  const read = limits.find((limit) => limit.name === name)
  const memory = read && { limit: read, seconds: bytes / read.best }
  const floats = computeBound('fp32', fp32, limits, instructionSet)
  const integers = computeBound('int8', int8, limits, instructionSet)
  // One after the other: a product of integers does not compute while attention does.
  const compute =
    floats && integers
      ? {
          limit: floats.seconds > integers.seconds ? floats.limit : integers.limit,
          seconds: floats.seconds + integers.seconds,
        }
      : (floats ?? integers)
  if (!memory || !compute) return memory ?? compute
  return compute.seconds > memory.seconds ? compute : memory
}

function computeBound(
  arithmetic: 'fp32' | 'int8',
  operations: number,
  limits: readonly Limit[],
  instructionSet: string,
): Bound | undefined {
  if (operations === 0) return undefined
  const limit = arithmeticLimit(arithmetic, limits, instructionSet)
  return limit && { limit, seconds: operations / limit.best }
}

/** Instruction sets that kernels of another one use as well, or are compared with for want of their own. */
const related: Readonly<Record<string, readonly string[]>> = {
  avx_vnni: ['avx2'],
  avx512_vnni: ['avx512'],
  neon: ['neon_dotprod'],
  neon_dotprod: ['neon'],
  scalar: ['sse42', 'neon', 'portable'],
}

/** The rate that bounds kernels of an instruction set. */
export function arithmeticLimit(
  arithmetic: 'fp32' | 'int8',
  limits: readonly Limit[],
  instructionSet: string,
): Limit | undefined {
  if (isGpu(instructionSet)) return limits.find(({ name }) => name === `16-bit ${instructionSet}`)
  const sets = [instructionSet, ...(related[instructionSet] ?? [])]
  return sets
    .map((set) => limits.find(({ name }) => name === `${arithmetic} ${set}`))
    .find((limit) => limit !== undefined)
}

function scaled(unit: string, value: number): number {
  if (unit === 'ms') return value * 1e3
  return unit.startsWith('G') ? value / 1e9 : value
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2
}
