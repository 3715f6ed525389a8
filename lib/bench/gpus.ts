/** What GPUs can do at most, by their drivers or by their vendor's data sheets. */
import type { NativeCudaInfo } from '../native.js'

export interface Gpu {
  name: string
  /** Compute capability: 80, 90. */
  arch: number
  /** Of the memory at its peak, bytes a second. */
  bandwidth: number
  memoryBytes: number
  multiprocessors: number
  /** Hz, boost. */
  clock: number
}

/** Peak bandwidths, sizes and clocks are those of the data sheets. */
export const gpus = {
  a100: sheet('A100 80GB', 80, 2039, 80, 108, 1.41),
  h100: sheet('H100 SXM', 90, 3350, 80, 132, 1.83),
  rtx4090: sheet('RTX 4090', 89, 1008, 24, 128, 2.52),
  l4: sheet('L4', 89, 300, 24, 58, 2.04),
} as const satisfies Record<string, Gpu>

function sheet(
  ...[name, arch, gigabytes, memoryGb, multiprocessors, gigahertz]: [
    ...[name: string, arch: number, gigabytes: number, memoryGb: number],
    ...[multiprocessors: number, gigahertz: number],
  ]
): Gpu {
  return {
    ...{ name, arch, multiprocessors, clock: gigahertz * 1e9 },
    ...{ bandwidth: gigabytes * 1e9, memoryBytes: memoryGb * 1e9 },
  }
}

/** A device as its driver describes it. Rates that it does not say, and those of a simulator, are 0. */
export function gpuOf(device: NativeCudaInfo['devices'][number]): Gpu {
  const { name, computeCapability, memoryBytes, multiprocessors, clockHz } = device
  const [major = 0, minor = 0] = computeCapability.split('.').map(Number)
  const hasClocks = !isSimulator(device)
  return {
    ...{ name, memoryBytes, multiprocessors, arch: 10 * major + minor },
    clock: hasClocks ? clockHz : 0,
    // Memory of all kinds transfers at both edges of its clock.
    bandwidth: hasClocks ? (2 * device.memoryClockHz * device.memoryBusBits) / 8 : 0,
  }
}

/**
 * Operations a clock of a multiprocessor's tensor cores: dense products of 16-bit numbers that are summed in fp32,
 * where a multiply-add is two. No driver says it; these follow from the rates and clocks of data sheets.
 */
const TENSOR_OPERATIONS: Readonly<Record<number, number>> = {
  ...{ 80: 2048, 86: 1024, 87: 2048, 89: 1024 },
  ...{ 90: 4096, 100: 8192, 103: 8192, 110: 8192, 120: 1024, 121: 1024 },
}

/** Operations a second of its tensor cores; undefined for architectures that are not known, and without a clock. */
export function tensorRate({ name, arch, multiprocessors, clock }: Gpu): number | undefined {
  const operations = TENSOR_OPERATIONS[arch]
  if (operations === undefined || clock === 0) return undefined
  // These sum in fp32 at half the rate of the chips that workstations have.
  const isHalf = /\b(GeForce|RTX (30|40|50)[5-9]0|TITAN)\b/.test(name) && arch >= 86
  return (multiprocessors * clock * operations) / (isHalf ? 2 : 1)
}

/** A device that stands in for a GPU in tests: times on it say nothing. */
export function isSimulator({ name }: Pick<Gpu, 'name'>): boolean {
  return name.startsWith('PTX simulator')
}
