/** Which two tokens merge into which, and in what order: a hash table in one typed array. */

const slotSize = 4
const empty = -1

/** Merges by the pair of token ids they join. */
export class MergeTable {
  /** [capacity, 4]: left id, right id, rank, merged id. A slot is one line of the cache at most. */
  readonly #slots: Int32Array
  readonly #mask: number

  constructor(numMerges: number) {
    const capacity = 2 ** Math.ceil(Math.log2(Math.max(4, numMerges * 2)))
    this.#slots = new Int32Array(capacity * slotSize).fill(empty)
    this.#mask = capacity - 1
  }

  /** Adds a merge; of two merges of one pair the last counts, as in the reference. */
  add(left: number, right: number, rank: number, merged: number): void {
    const slots = this.#slots
    let at = this.#slotOf(left, right)
    while (slots[at] !== empty) {
      if (slots[at] === left && slots[at + 1] === right) break
      at = (at + slotSize) & (this.#mask * slotSize)
    }
    slots[at] = left
    slots[at + 1] = right
    slots[at + 2] = rank
    slots[at + 3] = merged
  }

  /** A handle of the merge of two tokens, or -1. */
  find(left: number, right: number): number {
    const slots = this.#slots
    let at = this.#slotOf(left, right)
    for (;;) {
      const found = slots[at]
      if (found === left && slots[at + 1] === right) return at
      if (found === empty) return -1
      at = (at + slotSize) & (this.#mask * slotSize)
    }
  }

  /** The rank of a merge that was found: lower ranks merge first. */
  rank(handle: number): number {
    return this.#slots[handle + 2] as number
  }

  /** The id that a found merge makes. */
  merged(handle: number): number {
    return this.#slots[handle + 3] as number
  }

  #slotOf(left: number, right: number): number {
    let hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca77)
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
    return ((hash ^ (hash >>> 13)) & this.#mask) * slotSize
  }
}
