/** The machine's limits, measured again and again between the rows of a benchmark. */
import { fromNativeError } from '../errors.js'
import { nativeBinding } from '../native.js'
import { toLimit, type Limit } from './report.js'

/** Rates of a limit, each time it was measured. */
interface Rates {
  name: string
  rates: number[]
}

/** Collects what the limits are over a whole run. */
export class LimitSampler {
  readonly #all: Rates[] = []
  readonly #threads: number
  readonly #seconds: number

  /** @param seconds for the bandwidth at a time; arithmetic takes half of it. */
  constructor(threads: number, seconds: number) {
    this.#threads = threads
    this.#seconds = seconds
  }

  /** Measures every limit once and adds the rates to `sink` as well. */
  async sample(sink: Rates[] = []): Promise<void> {
    for (const name of nativeBinding().limitNames()) await this.#measure(name, sink)
  }

  /** Likewise, but the bandwidth alone, which changes as the machine's neighbours work or rest. */
  sampleBandwidth(sink: Rates[]): Promise<void> {
    return this.#measure('read', sink)
  }

  async #measure(name: string, sink: Rates[]): Promise<void> {
    // The bandwidth needs passes over much memory, an arithmetic rate less.
    const seconds = name === 'read' ? this.#seconds : this.#seconds / 2
    const rate = await nativeBinding()
      .measureLimit(name, this.#threads, seconds)
      .catch((error: unknown) => {
        throw fromNativeError(error)
      })
    append(sink, { name, rates: [rate] })
    this.add({ name, rates: [rate] })
  }

  /** Takes rates that were measured elsewhere in the same run. */
  add(rates: Rates): void {
    append(this.#all, rates)
  }

  limits(): Limit[] {
    return this.#all.map(({ name, rates }) => toLimit(name, rates))
  }
}

function append(to: Rates[], { name, rates }: Rates): void {
  const known = to.find((limit) => limit.name === name)
  if (known) known.rates.push(...rates)
  else to.push({ name, rates: [...rates] })
}
