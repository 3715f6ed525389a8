/** The rows of a benchmark and their table. */

/** The machine and what it can do with all threads, measured in the same run. */
export interface Machine {
  processor: string
  /** Instruction set of the kernels. */
  kernels: string
  threads: number
  read_gb_per_s: number
  fma_gflop_per_s: number
}

/** A line of `bench/native/kernels.cpp --json`. */
export interface KernelLine {
  kernel: string
  ms: number
  gb_per_s: number
  gflop_per_s: number
  limit: 'memory' | 'arithmetic'
  fraction: number
}

export interface Row {
  name: string
  value: number
  unit: string
  /** Fraction of the limit that bounds this row, where one does. */
  fraction?: number
  limit?: 'memory' | 'arithmetic'
}

export interface KernelReport extends Machine {
  rows: Row[]
}

export function toRow({ kernel, gb_per_s, gflop_per_s, limit, fraction }: KernelLine): Row {
  return limit === 'memory'
    ? { name: kernel, value: gb_per_s, unit: 'GB/s', fraction, limit }
    : { name: kernel, value: gflop_per_s, unit: 'GFLOP/s', fraction, limit }
}

export function printRows(machine: Machine, rows: Row[]): void {
  console.log(`${machine.processor}, ${machine.kernels} kernels, ${machine.threads} threads`)
  const read = `${machine.read_gb_per_s.toFixed(1)} GB/s`
  console.log(`limits: read ${read}, FP32 FMA ${machine.fma_gflop_per_s.toFixed(0)} GFLOP/s\n`)
  const width = Math.max(...rows.map((row) => row.name.length))
  for (const { name, value, unit, fraction, limit } of rows) {
    const share =
      fraction === undefined ? '' : `${(100 * fraction).toFixed(0).padStart(4)} % of ${limit ?? ''}`
    console.log(
      `${name.padEnd(width)}  ${value.toFixed(1).padStart(10)} ${unit.padEnd(9)} ${share}`,
    )
  }
}
