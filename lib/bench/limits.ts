/** The machine's limits, measured again and again between the rows of a benchmark. */
import { fromNativeError } from '../errors.js'
import { nativeBinding } from '../native.js'
import { toLimit, type Limit } from './report.js'

/** Collects what the limits are each time they are measured; the best and the median count. */
export class LimitSampler {
  readonly #rates = new Map<string, number[]>()
  readonly #threads: number
  readonly #seconds: number

  /** @param seconds for each limit at a time. */
  constructor(threads: number, seconds: number) {
    this.#threads = threads
    this.#seconds = seconds
  }

  /** Measures every limit once. */
  async sample(): Promise<void> {
    for (const name of nativeBinding().limitNames()) {
      // The bandwidth needs passes over much memory, an arithmetic rate does not.
      const seconds = name === 'read' ? this.#seconds : this.#seconds / 6
      const rate = await nativeBinding()
        .measureLimit(name, this.#threads, seconds)
        .catch((error: unknown) => {
          throw fromNativeError(error)
        })
      this.add(name, [rate])
    }
  }

  /** Takes rates that were measured elsewhere in the same run. */
  add(name: string, rates: readonly number[]): void {
    this.#rates.set(name, [...(this.#rates.get(name) ?? []), ...rates])
  }

  limits(): Limit[] {
    return [...this.#rates].map(([name, rates]) => toLimit(name, rates))
  }
}
