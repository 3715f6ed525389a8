/** Frames of unknown number, thinned out as they come so that memory stays bounded. */
import { frameIndices } from './sampling.js'

/**
 * Keeps at most twice `limit` frames: when there are that many, every second one is let go, and from
 * then on only every second of those to come is taken. What is left at the end is spread evenly.
 */
export class FrameCollector<Frame> {
  readonly #limit: number
  #kept: Frame[] = []
  #stride = 1
  #offered = 0

  /** @param limit the most frames of the result; at least 1, Infinity for all. */
  constructor(limit: number) {
    this.#limit = limit
  }

  /** Whether the next frame is worth preparing. Asked once for each frame. */
  wantsNext(): boolean {
    return this.#offered++ % this.#stride === 0
  }

  add(frame: Frame): void {
    this.#kept.push(frame)
    if (this.#kept.length < 2 * this.#limit) return
    this.#kept = this.#kept.filter((_, index) => index % 2 === 0)
    this.#stride *= 2
  }

  /** At most `limit` frames in their order. */
  take(): Frame[] {
    const kept = this.#kept
    if (kept.length <= this.#limit) return kept
    const indices = new Set(frameIndices({ first: 0, last: kept.length - 1 }, this.#limit))
    return kept.filter((_, index) => indices.has(index))
  }
}

/**
 * The items of an iterable until the signal aborts, which then ends the wait for the next one too. The
 * iterable is told to close in any case.
 *
 * @throws the signal's reason.
 */
export async function* untilAborted<T>(
  source: AsyncIterable<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T, void, undefined> {
  signal?.throwIfAborted()
  const iterator: AsyncIterator<T, unknown> = source[Symbol.asyncIterator]()
  try {
    for (;;) {
      const step = await orAbort(iterator.next(), signal)
      if (step.done) return
      yield step.value
    }
  } finally {
    // Not waited for: a generator closes after the step that it is in, which may never end.
    void Promise.resolve(iterator.return?.()).catch(() => {})
  }
}

/** The step's result, or the signal's reason. A listener for each step, so that the signal does not hold on to the results of all. */
export function orAbort<T>(step: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return step
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
    step.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
    if (signal.aborted) onAbort()
  })
}

/** Picks frames by their times: the first at or after each tick of a clock of `fps`. */
export class TimeGrid {
  readonly #fps: number
  #start: number | undefined
  #tick = 0

  constructor(fps: number) {
    this.#fps = fps
  }

  /** Whether a frame of this time, in seconds, is the next one. */
  accepts(time: number): boolean {
    this.#start ??= time
    // A frame a hair before its tick is meant for it: times are rounded.
    const ticks = Math.floor((time - this.#start) * this.#fps + 1e-6)
    if (ticks < this.#tick) return false
    this.#tick = ticks + 1
    return true
  }
}
