/** What a kernel must keep to, and who is excused. */
import type { Counters } from './counters.js'
import type { KernelResources } from './ptxas.js'

/** A kernel on an architecture with what a multiprocessor holds of it. */
export interface Occupancy extends KernelResources {
  threads: number
  sharedBytes: number
  blocks: number
  warps: number
  limitedBy: string
}

/** `kernel` may end in `*`. */
export interface Waiver {
  kernel: string
  metric: string
  /** All where absent. */
  archs?: number[]
  reason: string
}

export interface Violation {
  kernel: string
  arch?: number
  metric: string
  value: number
  limit: number
  /** Why it is excused. */
  waived?: string
}

/** Data centre chips have twice the bandwidth for each multiprocessor. */
const large = new Set([80, 90, 100])

export function checkOccupancy(kernel: Occupancy, counters: Counters): Violation[] {
  const found: Violation[] = []
  const { arch } = kernel
  const atMost = (metric: string, value: number, limit: number): void => {
    if (value > limit) found.push({ kernel: kernel.kernel, arch, metric, value, limit })
  }
  const atLeast = (metric: string, value: number, limit: number): void => {
    if (value < limit) found.push({ kernel: kernel.kernel, arch, metric, value, limit })
  }
  atMost('spilled bytes', kernel.spillStores + kernel.spillLoads, 0)
  atMost('stack bytes', kernel.stack, 0)
  if (kernel.kernel.startsWith('attention_')) atLeast('warps', kernel.warps, 8)
  if (kernel.kernel.startsWith('gemv_')) atLeast('warps', kernel.warps, large.has(arch) ? 24 : 16)
  if (counters.bytesAhead !== undefined) {
    const inFlight = kernel.warps * 32 * counters.bytesAhead
    atLeast('bytes in flight', inFlight, (large.has(arch) ? 32 : 16) << 10)
  }
  return found
}

export function checkCounters(counters: Counters): Violation[] {
  const found: Violation[] = []
  const { kernel } = counters
  const atMost = (metric: string, value: number, limit: number): void => {
    if (value > limit) found.push({ kernel, metric, value, limit })
  }
  atMost('sectors', counters.sectorRatio, 1.1)
  atMost('bank cycles', counters.bankRatio, 1.1)
  atMost('bank cycles of the inner loop', counters.mainBankRatio, 1)
  if (counters.instructionsPerNumber === undefined || counters.readPerByte === undefined) {
    return found
  }
  atMost('sectors of weights or keys', counters.mainSectorRatio, 1.02)
  atMost('bytes read for each there is', counters.readPerByte, 1.05)
  if (kernel.startsWith('gemv_')) {
    // Bytes go through F32 in bf16, as moves that only PTX has; at full bandwidth a multiprocessor of
    // an H100 takes 13.5 of these weights a clock and issues 128 instructions of lanes.
    const limit = kernel.startsWith('gemv_int4') ? 4 : kernel.startsWith('gemv_int8') ? 9 : 6
    atMost('instructions a weight', counters.instructionsPerNumber, limit)
  }
  return found
}

/** Marks what is excused. Throws for a waiver that excuses nothing: it is to be removed. */
export function applyWaivers(
  violations: readonly Violation[],
  waivers: readonly Waiver[],
): Violation[] {
  const used = new Set<Waiver>()
  const result = violations.map((violation) => {
    const waiver = waivers.find(
      ({ kernel, metric, archs }) =>
        matches(kernel, violation.kernel) &&
        metric === violation.metric &&
        (!archs || (violation.arch !== undefined && archs.includes(violation.arch))),
    )
    if (!waiver) return violation
    used.add(waiver)
    return { ...violation, waived: waiver.reason }
  })
  const idle = waivers.find((waiver) => !used.has(waiver))
  if (idle) {
    throw new Error(
      `The waiver of '${idle.metric}' for '${idle.kernel}' excuses nothing any more: remove it`,
    )
  }
  return result
}

function matches(pattern: string, kernel: string): boolean {
  return pattern.endsWith('*') ? kernel.startsWith(pattern.slice(0, -1)) : kernel === pattern
}
