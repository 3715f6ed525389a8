/** How fast a model gets through its requests. */
import { QueueFullError } from '../errors.js'
import type { NativeStats } from '../native.js'

/** What the last request weighs in the mean: about the last ten count. */
const LAST_WEIGHT = 0.2

/** A running mean of how long requests take once they have begun. */
export class Pace {
  readonly #maxConcurrency: number
  #meanMs: number | undefined

  constructor(maxConcurrency: number) {
    this.#maxConcurrency = maxConcurrency
  }

  /** A request has ended. */
  note({ queueMs, firstTokenMs, decodeMs }: NativeStats): void {
    const ms = Math.max(firstTokenMs + decodeMs - queueMs, 0)
    const mean = this.#meanMs ?? ms
    this.#meanMs = mean + LAST_WEIGHT * (ms - mean)
  }

  /** As many requests run at once, so a place is free that much sooner. */
  get retryAfterMs(): number | undefined {
    if (this.#meanMs === undefined) return undefined
    return Math.max(1, Math.ceil(this.#meanMs / this.#maxConcurrency))
  }

  /** Adds to a full queue's error when to come again; leaves others as they are. */
  explain(error: Error): Error {
    const { retryAfterMs } = this
    if (!(error instanceof QueueFullError) || retryAfterMs === undefined) return error
    const details = { ...error.details, retryAfterMs }
    return new QueueFullError(error.message, { cause: error.cause, details })
  }
}
