/** The rows of a benchmark and their table. */

/** What this machine can do, measured in the same run with all threads. */
export interface Limits {
  readGBs: number
  fmaGFLOPs: number
}

export interface Row {
  name: string
  value: number
  unit: string
  /** Fraction of the limit that bounds this row, where one does. */
  fraction?: number
  limit?: 'read bandwidth' | 'FP32 FMA'
}

/** What bench/native/kernels.cpp prints with --json. */
export interface KernelReport {
  processor: string
  instructionSet: string
  threads: number
  limits: Limits
  rows: Row[]
}

export function printRows(
  { processor, instructionSet, threads, limits }: KernelReport,
  rows: Row[],
): void {
  console.log(`${processor}, ${instructionSet} kernels, ${threads} threads`)
  console.log(
    `limits: read ${limits.readGBs.toFixed(1)} GB/s, FP32 FMA ${limits.fmaGFLOPs.toFixed(0)} GFLOP/s\n`,
  )
  const width = Math.max(...rows.map((row) => row.name.length))
  for (const { name, value, unit, fraction, limit } of rows) {
    const share =
      fraction === undefined ? '' : `${(100 * fraction).toFixed(0).padStart(4)} % of ${limit}`
    console.log(
      `${name.padEnd(width)}  ${value.toFixed(1).padStart(10)} ${unit.padEnd(9)} ${share}`,
    )
  }
}
