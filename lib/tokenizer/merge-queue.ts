/** Merges that wait, the lowest rank first and the leftmost among equals: a binary heap. */

/** Ranks are below 2^21 (there are no more token ids), so that both fit into a double. */
const rankScale = 2 ** 32

/** A priority queue of (rank, position). */
export class MergeQueue {
  #keys: Float64Array
  #size = 0

  constructor(capacity: number) {
    this.#keys = new Float64Array(Math.max(16, capacity))
  }

  get size(): number {
    return this.#size
  }

  push(rank: number, position: number): void {
    if (this.#size === this.#keys.length) {
      const larger = new Float64Array(this.#size * 2)
      larger.set(this.#keys)
      this.#keys = larger
    }
    const keys = this.#keys
    const key = rank * rankScale + position
    let at = this.#size++
    while (at > 0) {
      const parent = (at - 1) >> 1
      const parentKey = keys[parent] as number
      if (parentKey <= key) break
      keys[at] = parentKey
      at = parent
    }
    keys[at] = key
  }

  /** Takes out the first. The queue must not be empty. */
  pop(): { rank: number; position: number } {
    const keys = this.#keys
    const top = keys[0] as number
    const key = keys[--this.#size] as number
    let at = 0
    for (;;) {
      let child = at * 2 + 1
      if (child >= this.#size) break
      if (child + 1 < this.#size && (keys[child + 1] as number) < (keys[child] as number)) child++
      const childKey = keys[child] as number
      if (childKey >= key) break
      keys[at] = childKey
      at = child
    }
    keys[at] = key
    return { rank: Math.floor(top / rankScale), position: top % rankScale }
  }
}
