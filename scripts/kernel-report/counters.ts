/** What the simulator counted in a launch: traffic, bank cycles, instructions. */

interface Traffic {
  requests: number
  bytes: number
  ideal: number
}

/** An instruction that touches memory. */
export type Site = Traffic & { at: string } & (
    { space: 'global'; sectors: number } | { space: 'shared'; cycles: number }
  )

/** A line of the simulator's report; test/cuda/README.md describes the fields. */
export interface Launch {
  kernel: string
  grid: [number, number, number]
  block: [number, number, number]
  shared_bytes: number
  /** Of all lanes. */
  instructions: number
  global: Traffic & { sectors: number; touched_bytes: number }
  shared: Traffic & { cycles: number }
  sites: Site[]
}

/** What the program of representative launches says of one of its launches. */
export interface Representative {
  kernel: string
  /** Weights, or numbers of keys and values, that the launch reads. */
  numbers: number
  /** Their bytes; scales and zero points are not among them. */
  bytes: number
  /** That a thread has asked for and not yet used. */
  bytesAhead: number
}

/** Figures of a launch, each 1 at best but for `instructionsPerNumber`. */
export interface Counters {
  kernel: string
  grid: number
  threads: number
  sharedBytes: number
  sectorRatio: number
  /** Of the instruction that moves most bytes. */
  mainSectorRatio: number
  bankRatio: number
  /** Of the instruction that takes most cycles. */
  mainBankRatio: number
  /** Only of representative launches, as what follows: bytes of weights or keys read, for each. */
  readPerByte?: number
  instructionsPerNumber?: number
  bytesAhead?: number
}

const sectorBytes = 32

export function parseLaunches(lines: string): Launch[] {
  return lines
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Launch | { copy: string })
    .filter((line): line is Launch => !('copy' in line))
}

export function parseRepresentatives(lines: string): Representative[] {
  return lines
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [kernel = '', ...rest] = line.split(' ')
      const [numbers = 0, bytes = 0, bytesAhead = 0] = rest.map(Number)
      return { kernel, numbers, bytes, bytesAhead }
    })
}

/** Of each kernel its representative launch, or else the one of most instructions. */
export function pickLaunches(
  launches: readonly Launch[],
  representatives: readonly Representative[],
  representativeLaunches: readonly Launch[],
): Counters[] {
  const largest = new Map<string, Launch>()
  for (const launch of launches) {
    const other = largest.get(launch.kernel)
    if (!other || launch.instructions > other.instructions) largest.set(launch.kernel, launch)
  }
  const counters = new Map<string, Counters>()
  for (const launch of largest.values()) counters.set(launch.kernel, countersOf(launch))
  for (const launch of representativeLaunches) {
    const known = representatives.find(({ kernel }) => kernel === launch.kernel)
    if (!known) throw new Error(`Nothing is said of the representative launch of ${launch.kernel}`)
    counters.set(launch.kernel, {
      ...countersOf(launch),
      readPerByte: streamedBytes(launch) / known.bytes,
      instructionsPerNumber: launch.instructions / known.numbers,
      bytesAhead: known.bytesAhead,
    })
  }
  return [...counters.values()].sort((a, b) => (a.kernel < b.kernel ? -1 : 1))
}

export function countersOf(launch: Launch): Counters {
  const { global, shared } = launch
  let main = { bytes: 0, ratio: 1 }
  let bank = { cycles: 0, ratio: 1 }
  for (const site of launch.sites) {
    if (site.space === 'global') {
      if (site.bytes > main.bytes) main = { bytes: site.bytes, ratio: ratio(site.sectors, site) }
    } else if (site.cycles > bank.cycles) {
      bank = { cycles: site.cycles, ratio: ratio(site.cycles, site) }
    }
  }
  return {
    kernel: launch.kernel,
    grid: product(launch.grid),
    threads: product(launch.block),
    sharedBytes: launch.shared_bytes,
    sectorRatio: ratio(global.sectors, global),
    mainSectorRatio: main.ratio,
    bankRatio: ratio(shared.cycles, shared),
    mainBankRatio: bank.ratio,
  }
}

/** What is read past the L1 cache: weights, keys and values. */
function streamedBytes(launch: Launch): number {
  let sectors = 0
  for (const site of launch.sites) {
    if (site.space === 'global' && site.at.includes('L1::no_allocate')) sectors += site.sectors
  }
  return sectors * sectorBytes
}

function ratio(transfers: number, { ideal }: Traffic): number {
  return ideal === 0 ? 1 : transfers / ideal
}
function product([x, y, z]: [number, number, number]): number {
  return x * y * z
}
