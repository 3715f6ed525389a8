/** What a benchmark reports: limits of the machine, and rows that stand beside them. */

/** What the machine can do at most, measured beside the rows: bytes or operations a second. */
export interface Limit {
  /** `read`, the memory bandwidth, or a kind of number and an instruction set: `fp32 avx2`. */
  name: string
  best: number
  median: number
  runs: number
}

/** What a run moves and computes at least. A multiply-add counts as two operations. */
export interface Work {
  bytes: number
  operations: number
  /** The rate that bounds the operations. */
  arithmetic: 'fp32' | 'int8'
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
      unit: 's' | 'ms' | 'tokens/s' | 'GB/s' | 'GFLOP/s'
      /** What of the unit a run does, where it is a rate: tokens, bytes or operations. */
      amount?: number
      work?: Work
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
  /** The limit's best while the row was measured. */
  limitRate?: number
  /** The shortest time that the limit allows, of the best run's time. */
  fraction?: number
  work?: Work
}

export interface Machine {
  processor: string
  /** Of the kernels: `avx2`, `avx512`… */
  instructionSet: string
  threads: number
}

export interface Report extends Machine {
  package: string
  node: string
  /** The checkpoint, and what its weights were kept as. */
  model: { folder: string; parameters: number; weightBytes: number; dtype: string }
  limits: Limit[]
  rows: Row[]
}

/** The best and the median of the rates of a limit. */
export function toLimit(name: string, rates: readonly number[]): Limit {
  return { name, best: Math.max(...rates), median: median(rates), runs: rates.length }
}

/** A row: the best and the median figure, and how much the best is of what the limits allow. */
export function toRow(measurement: Measurement, instructionSet: string): Row {
  const { section, name, unit } = measurement
  if ('value' in measurement) {
    const { value, fraction, limit } = measurement
    const comparison = { ...(fraction !== undefined && { fraction }), ...(limit && { limit }) }
    return { section, name, unit, best: value, median: value, runs: 1, ...comparison }
  }
  const { timed, amount = 1, work } = measurement
  const { seconds } = timed
  const figure = (time: number) =>
    scaled(unit, unit === 's' || unit === 'ms' ? time : amount / time)
  const limits = timed.limits.map(({ name, rates }) => toLimit(name, rates))
  const bound = work && boundOf(work, limits, instructionSet)
  const best = Math.min(...seconds)
  return {
    ...{ section, name, unit, best: figure(best), median: figure(median(seconds)) },
    runs: seconds.length,
    ...(bound && {
      ...{ limit: bound.limit.name, limitRate: bound.limit.best, fraction: bound.seconds / best },
    }),
    ...(work && { work }),
  }
}

/** The limit that the work meets first, and the time that it takes there. */
function boundOf(
  { bytes, operations, arithmetic }: Work,
  limits: readonly Limit[],
  instructionSet: string,
): { limit: Limit; seconds: number } | undefined {
  const read = limits.find(({ name }) => name === 'read')
  const compute = arithmeticLimit(arithmetic, limits, instructionSet)
  const bounds = [
    ...(read ? [{ limit: read, seconds: bytes / read.best }] : []),
    ...(compute ? [{ limit: compute, seconds: operations / compute.best }] : []),
  ]
  return bounds.reduce<(typeof bounds)[number] | undefined>(
    (slowest, bound) => (slowest && slowest.seconds >= bound.seconds ? slowest : bound),
    undefined,
  )
}

/** The rate of the instruction set that the kernels use; `avx512-vnni` is part of `avx512`. */
export function arithmeticLimit(
  arithmetic: Work['arithmetic'],
  limits: readonly Limit[],
  instructionSet: string,
): Limit | undefined {
  const rates = limits.filter(({ name }) => name.startsWith(`${arithmetic} `))
  const ofKernels = rates.filter(({ name }) => {
    const set = name.slice(arithmetic.length + 1)
    return set.startsWith(instructionSet) || instructionSet.startsWith(set)
  })
  return ofKernels.at(-1) ?? rates[0]
}

function scaled(unit: string, value: number): number {
  if (unit === 'ms') return value * 1e3
  return unit === 'GB/s' || unit === 'GFLOP/s' ? value / 1e9 : value
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2
}
