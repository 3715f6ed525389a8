/** Ends a fetch when its time is up or its caller has had enough. */
import { FetchError } from '../errors.js'
import { fetchError } from './fetch-error.js'

const DEFAULT_IDLE_TIMEOUT_MS = 10_000

/** Something that can be closed at once. */
interface Destroyable {
  destroy(error?: Error): unknown
}

/** Watches over one fetch, through all its redirects. */
export class FetchGuard {
  /** Where the fetch has come to, for messages. */
  location: URL
  readonly #idleMs: number
  readonly #total: NodeJS.Timeout
  readonly #unfollow: () => void
  #target: Destroyable | undefined
  #end: { reason: Error } | undefined
  #interrupt: (() => void) | undefined

  constructor(
    url: URL,
    { timeoutMs, idleTimeoutMs }: { timeoutMs: number; idleTimeoutMs?: number },
    signal: AbortSignal | undefined,
  ) {
    signal?.throwIfAborted()
    this.location = url
    this.#idleMs = Math.min(timeoutMs, idleTimeoutMs ?? DEFAULT_IDLE_TIMEOUT_MS)
    this.#total = setTimeout(() => this.#timeout(`took longer than ${timeoutMs} ms`), timeoutMs)
    const onAbort = () => this.#stop(signal?.reason as Error)
    signal?.addEventListener('abort', onAbort, { once: true })
    this.#unfollow = () => signal?.removeEventListener('abort', onAbort)
  }

  /** What is closed from now on; takes the place of what was attached before. */
  attach(target: Destroyable): void {
    this.#target = target
    if (this.#end) target.destroy()
  }

  /** The work's outcome; rejects as soon as the guard ends the fetch or the work takes too long. */
  async wait<T>(work: Promise<T>): Promise<T> {
    const idle = setTimeout(
      () => this.#timeout(`gave nothing for ${this.#idleMs} ms`),
      this.#idleMs,
    )
    const interrupted = new Promise<never>((_, reject) => {
      this.#interrupt = () => {
        if (this.#end) reject(this.#end.reason)
      }
      this.#interrupt()
    })
    try {
      return await Promise.race([work, interrupted])
    } finally {
      clearTimeout(idle)
      this.#interrupt = undefined
    }
  }

  /** What a failure of the fetch is told as: the reason of its end, if the guard ended it. */
  explain(error: unknown): unknown {
    if (this.#end) return this.#end.reason
    if (error instanceof FetchError) return error
    const { code, message } = error as NodeJS.ErrnoException
    return fetchError(
      'ERR_FETCH_FAILED',
      this.location,
      `cannot be fetched (${code ?? message}). Check the address and the network, or pass the bytes.`,
      {},
      error,
    )
  }

  /** The fetch is over: lets go of everything and closes the connection. */
  close(): void {
    clearTimeout(this.#total)
    this.#unfollow()
    this.#target?.destroy()
  }

  #timeout(what: string): void {
    this.#stop(
      fetchError(
        'ERR_FETCH_TIMEOUT',
        this.location,
        `${what}. Try again, raise fetchTimeoutMs, or pass the bytes.`,
      ),
    )
  }

  #stop(reason: Error): void {
    if (this.#end) return
    this.#end = { reason }
    this.#interrupt?.()
    this.#target?.destroy()
  }
}
