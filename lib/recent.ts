/** Keeps what was used last. */
export class Recent<K, V> {
  readonly #max: number
  /** The least lately used first. */
  readonly #kept = new Map<K, V>()

  constructor(max: number) {
    this.#max = max
  }

  /** What is kept under `key`, or what `make` gives; it is then the one used last. */
  get(key: K, make: () => V): V {
    const value = this.#kept.has(key) ? (this.#kept.get(key) as V) : make()
    this.#kept.delete(key)
    this.#kept.set(key, value)
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= this.#max) break
      this.#kept.delete(oldest)
    }
    return value
  }

  delete(key: K): void {
    this.#kept.delete(key)
  }
}
