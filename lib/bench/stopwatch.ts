/** Repeats runs in turn with the machine's limits, as often as time allows. */
import type { LimitSource } from './limits.js'
import type { Timed } from './report.js'

/** How thorough a benchmark is. */
export interface Effort {
  /** Runs of a row at most. */
  runs: number
  /** A row is not repeated once it has used this many seconds. */
  rowSeconds: number
}

export const thorough: Effort = { runs: 5, rowSeconds: 12 }
export const quick: Effort = { runs: 1, rowSeconds: 0 }

/** What runs take, each after another look at the limits. */
export class Stopwatch {
  readonly #limits: LimitSource
  readonly #effort: Effort

  constructor(limits: LimitSource, effort: Effort) {
    this.#limits = limits
    this.#effort = effort
  }

  /** The limits as they are now. */
  sample(limits: Timed['limits']): Promise<void> {
    return this.#limits.sample(limits)
  }

  /**
   * Times runs, and the limits: all of them before the first, the bandwidth before each and after the last.
   *
   * @param run gives its own time in seconds, as it may prepare things before.
   */
  async time(run: () => Promise<number>): Promise<Timed> {
    const timed: Timed = { seconds: [], limits: [] }
    const begin = performance.now()
    await this.#limits.sample(timed.limits)
    do {
      timed.seconds.push(await run())
      await this.#limits.sampleBandwidth(timed.limits)
    } while (
      timed.seconds.length < this.#effort.runs &&
      performance.now() - begin < this.#effort.rowSeconds * 1000
    )
    return timed
  }
}

/** Seconds that the work takes. */
export async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now()
  await work()
  return (performance.now() - begin) / 1000
}
