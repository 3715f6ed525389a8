/** What stands between a producer that never waits and a reader that may be slow. */

interface Waiter<T> {
  resolve(result: IteratorResult<T, undefined>): void
  reject(reason: unknown): void
}

/** A queue with an end, for one reader. */
export class EventQueue<T> {
  #items: T[] = []
  readonly #waiters: Waiter<T>[] = []
  #ended = false
  #failure: { reason: unknown } | undefined

  push(item: T): void {
    if (this.#ended) return
    const waiter = this.#waiters.shift()
    if (waiter) waiter.resolve({ done: false, value: item })
    else this.#items.push(item)
  }

  /** What was pushed before can still be read. With a failure, the read after it rejects, once. */
  end(failure?: { reason: unknown }): void {
    if (this.#ended) return
    this.#ended = true
    this.#failure = failure
    for (const waiter of this.#waiters.splice(0)) this.#next(waiter)
  }

  /** The reader has left: nothing is kept any more. */
  close(): void {
    this.#items = []
    this.end()
    this.#failure = undefined
  }

  next(): Promise<IteratorResult<T, undefined>> {
    return new Promise((resolve, reject) => this.#next({ resolve, reject }))
  }

  #next(waiter: Waiter<T>): void {
    const item = this.#items.shift()
    if (item !== undefined) {
      waiter.resolve({ done: false, value: item })
    } else if (this.#failure) {
      waiter.reject(this.#failure.reason)
      this.#failure = undefined
    } else if (this.#ended) {
      waiter.resolve({ done: true, value: undefined })
    } else {
      this.#waiters.push(waiter)
    }
  }
}
