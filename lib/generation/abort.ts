/** One place where everything that can end a request early comes together. */

import { defaultMaxListeners, getEventListeners, setMaxListeners } from 'node:events'
import { DisposedError, TimeoutError } from '../errors.js'

/** The end of one request before its time: by a signal, a timeout, leaving a stream, dispose(). */
export class Abort {
  readonly #callbacks = new Set<() => void>()
  readonly #unfollow: (() => void)[] = []
  #state: { reason: unknown } | undefined

  get aborted(): boolean {
    return this.#state !== undefined
  }

  get reason(): unknown {
    return this.#state?.reason
  }

  /** The first reason stays; later calls do nothing. */
  abort(reason: unknown): void {
    if (this.#state) return
    this.#state = { reason }
    const callbacks = [...this.#callbacks]
    this.close()
    for (const callback of callbacks) callback()
  }

  throwIfAborted(): void {
    if (this.#state) throw this.#state.reason
  }

  /** A promise that rejects with the reason; for after the abort. */
  // eslint-disable-next-line @typescript-eslint/require-await -- async turns the throw into a rejection
  async rejection(): Promise<never> {
    throw this.#state?.reason
  }

  /** Aborts when `signal` does, with its reason; at once if it already has. */
  follow(signal: AbortSignal): void {
    if (signal.aborted) {
      this.abort(signal.reason)
      return
    }
    const listener = () => this.abort(signal.reason)
    // One signal may well serve many requests: that is no leak, which Node would warn of.
    if (getEventListeners(signal, 'abort').length >= defaultMaxListeners) setMaxListeners(0, signal)
    signal.addEventListener('abort', listener, { once: true })
    this.#unfollow.push(() => signal.removeEventListener('abort', listener))
  }

  /** Aborts with a TimeoutError in so many milliseconds, unless it is closed before. */
  after(timeoutMs: number): void {
    if (this.#state) return
    const timer = setTimeout(() => this.abort(new TimeoutError(timeoutMs)), timeoutMs)
    this.#unfollow.push(() => clearTimeout(timer))
  }

  /** Whether somebody wanted the end who may also want the part so far. A disposed model has none. */
  get isWanted(): boolean {
    return this.#state !== undefined && !(this.#state.reason instanceof DisposedError)
  }

  /** Calls back at the abort; at once if it has happened. Gives back what takes the callback away. */
  onAbort(callback: () => void): () => void {
    if (this.#state) callback()
    else this.#callbacks.add(callback)
    return () => void this.#callbacks.delete(callback)
  }

  /** The work's result, or a rejection with the reason as soon as there is one. */
  race<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const onAbort = () => resolve(this.rejection())
      const settle =
        <V>(outcome: (value: V) => void) =>
        (value: V) => {
          this.#callbacks.delete(onAbort)
          outcome(value)
        }
      work.then(settle(resolve), settle(reject))
      this.onAbort(onAbort)
    })
  }

  /** The request is over: lets go of the signals. */
  close(): void {
    for (const unfollow of this.#unfollow.splice(0)) unfollow()
    this.#callbacks.clear()
  }
}

/** What an abort without a reason rejects with, as fetch does. */
export function abortError(message = 'This operation was aborted'): DOMException {
  return new DOMException(message, 'AbortError')
}
