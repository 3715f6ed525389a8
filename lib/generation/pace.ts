/** How fast a model gets through its requests. */
import { QueueFullError } from '../errors.js'
import type { Work } from './estimate.js'
import type { NativeStats } from '../native.js'

/** What the last request weighs in the mean: about the last ten count. */
const LAST_WEIGHT = 0.2

/** A mean in which older values fade. */
class RunningMean {
  value: number | undefined

  add(value: number): void {
    this.value = (this.value ?? value) + LAST_WEIGHT * (value - (this.value ?? value))
  }
}

/** Running means of how long requests take once they have begun, and of how fast their work is done. */
export class Pace {
  readonly #maxConcurrency: number
  readonly #requestMs = new RunningMean()
  readonly #msPerVisionFlop = new RunningMean()
  readonly #msPerPrefillFlop = new RunningMean()

  constructor(maxConcurrency: number) {
    this.#maxConcurrency = maxConcurrency
  }

  /** A request has ended. */
  note({ queueMs, firstTokenMs, decodeMs }: NativeStats): void {
    this.#requestMs.add(Math.max(firstTokenMs + decodeMs - queueMs, 0))
  }

  /** A request's work has been done, all of it: what came out of the caches says nothing about speed. */
  noteWork({ visionFlops, prefillFlops }: Work, stats: NativeStats): void {
    if (stats.cachedTokens > 0 || stats.reusedItems.includes(true)) return
    if (visionFlops > 0) this.#msPerVisionFlop.add(stats.visionMs / visionFlops)
    this.#msPerPrefillFlop.add(stats.prefillMs / prefillFlops)
  }

  /** How long the work will take; undefined while the like of it has not been measured. */
  expect({ visionFlops, prefillFlops }: Work): { vision: number; prefill: number } | undefined {
    const prefillRate = this.#msPerPrefillFlop.value
    const visionRate = visionFlops > 0 ? this.#msPerVisionFlop.value : 0
    if (prefillRate === undefined || visionRate === undefined) return undefined
    return { vision: visionRate * visionFlops, prefill: prefillRate * prefillFlops }
  }

  /** As many requests run at once, so a place is free that much sooner. */
  get retryAfterMs(): number | undefined {
    const ms = this.#requestMs.value
    return ms === undefined ? undefined : Math.max(1, Math.ceil(ms / this.#maxConcurrency))
  }

  /** Adds to a full queue's error when to come again; leaves others as they are. */
  explain(error: Error): Error {
    const { retryAfterMs } = this
    if (!(error instanceof QueueFullError) || retryAfterMs === undefined) return error
    const details = { ...error.details, retryAfterMs }
    return new QueueFullError(error.message, { cause: error.cause, details })
  }
}
