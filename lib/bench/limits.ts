/** The limits of the machine or its GPU, looked at again and again between the rows of a benchmark. */
import { fromNativeError } from '../errors.js'
import { nativeBinding } from '../native.js'
import { isSimulator, tensorRate, type Gpu } from './gpus.js'
import { toLimit, type Limit } from './report.js'

/** Rates of a limit, each time it was measured. */
interface Rates {
  name: string
  rates: number[]
}

/** What the rows stand beside. */
export interface LimitSource {
  /** Looks at every limit once and adds the rates to `sink` as well. */
  sample(sink?: Rates[]): Promise<void>
  /** Likewise, but the bandwidth alone, which changes as the machine's neighbours work or rest. */
  sampleBandwidth(sink: Rates[]): Promise<void>
  /** Takes rates that were measured elsewhere in the same run. */
  add(rates: Rates): void
  limits(): Limit[]
}

/** Collects what the limits are over a whole run. */
class Collected {
  readonly #all: Rates[] = []

  add(rates: Rates): void {
    append(this.#all, rates)
  }

  limits(): Limit[] {
    return this.#all.map(({ name, rates }) => toLimit(name, rates))
  }
}

/** Measures the processor and its memory. */
export class LimitSampler extends Collected implements LimitSource {
  readonly #threads: number
  readonly #seconds: number

  /** @param seconds for the bandwidth at a time; arithmetic takes half of it. */
  constructor(threads: number, seconds: number) {
    super()
    this.#threads = threads
    this.#seconds = seconds
  }

  async sample(sink: Rates[] = []): Promise<void> {
    for (const name of nativeBinding().limitNames()) await this.#measure(name, sink)
  }

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
}

/**
 * Of a GPU: `memory`, the peak of its memory, and `16-bit sm_90`, that of its tensor cores, are computed from what
 * its driver says; `copy` is what copies within its memory reach. A simulator has none of them.
 */
export class GpuLimits extends Collected implements LimitSource {
  readonly #ordinal: number
  readonly #gpu: Gpu
  readonly #seconds: number

  /** @param seconds for the copies at a time. */
  constructor(ordinal: number, gpu: Gpu, seconds: number) {
    super()
    this.#ordinal = ordinal
    this.#gpu = gpu
    this.#seconds = seconds
  }

  async sample(sink: Rates[] = []): Promise<void> {
    const rate = tensorRate(this.#gpu)
    if (rate !== undefined) this.#take(`16-bit sm_${this.#gpu.arch}`, rate, sink)
    await this.sampleBandwidth(sink)
  }

  async sampleBandwidth(sink: Rates[]): Promise<void> {
    if (isSimulator(this.#gpu)) return
    if (this.#gpu.bandwidth > 0) this.#take('memory', this.#gpu.bandwidth, sink)
    const rate = await nativeBinding()
      .measureGpuCopy(this.#ordinal, this.#seconds)
      .catch((error: unknown) => {
        throw fromNativeError(error)
      })
    this.#take('copy', rate, sink)
  }

  #take(name: string, rate: number, sink: Rates[]): void {
    append(sink, { name, rates: [rate] })
    this.add({ name, rates: [rate] })
  }
}

function append(to: Rates[], { name, rates }: Rates): void {
  const known = to.find((limit) => limit.name === name)
  if (known) known.rates.push(...rates)
  else to.push({ name, rates: [...rates] })
}
