/** Remembers the ids of words. A text has few different words, and most merge many times. */

const maxWords = 1 << 15
const numSlots = maxWords * 2
const slotSize = 4
/** Room for the words' UTF-16 units and ids; when one of the three is used up, all is forgotten. */
const maxUnits = 1 << 18
const maxIds = 1 << 17

/**
 * Ids by word, in typed arrays of 2.1 MB. Words are compared in place, so no string is made for
 * one. Forgetting everything when it is full bounds it and costs less than bookkeeping of use would.
 */
export class WordCache {
  /** [numSlots, 4]: hash, first unit, first id, number of units << 16 | number of ids. */
  readonly #slots = new Int32Array(numSlots * slotSize)
  readonly #units = new Uint16Array(maxUnits)
  readonly #ids = new Int32Array(maxIds)
  #numWords = 0
  #numUnits = 0
  #numIds = 0

  /** Appends the ids of the word `units[start, end)` to `ids` if it is known. */
  find(units: Uint16Array, start: number, end: number, hash: number, ids: number[]): boolean {
    const slots = this.#slots
    const length = end - start
    for (let at = slotOf(hash); ; at = (at + slotSize) & (numSlots * slotSize - 1)) {
      const sizes = slots[at + 3] as number
      if (sizes === 0) return false
      if (slots[at] !== hash || sizes >>> 16 !== length) continue
      if (!this.#equals(slots[at + 1] as number, units, start, length)) continue
      const first = slots[at + 2] as number
      const afterLast = first + (sizes & 0xffff)
      for (let i = first; i < afterLast; i++) ids.push(this.#ids[i] as number)
      return true
    }
  }

  /** Remembers the ids `ids[firstId, …)` of a word that {@link find} did not know. */
  add(
    units: Uint16Array,
    start: number,
    end: number,
    hash: number,
    ids: readonly number[],
    firstId: number,
  ): void {
    const length = end - start
    const count = ids.length - firstId
    if (
      this.#numWords === maxWords ||
      this.#numUnits + length > maxUnits ||
      this.#numIds + count > maxIds
    ) {
      this.#forget()
    }
    let at = slotOf(hash)
    while (this.#slots[at + 3] !== 0) at = (at + slotSize) & (numSlots * slotSize - 1)
    this.#slots[at] = hash
    this.#slots[at + 1] = this.#numUnits
    this.#slots[at + 2] = this.#numIds
    this.#slots[at + 3] = (length << 16) | count
    for (let i = start; i < end; i++) this.#units[this.#numUnits++] = units[i] as number
    for (let i = firstId; i < ids.length; i++) this.#ids[this.#numIds++] = ids[i] as number
    this.#numWords++
  }

  #equals(known: number, units: Uint16Array, start: number, length: number): boolean {
    for (let i = 0; i < length; i++) {
      if (this.#units[known + i] !== units[start + i]) return false
    }
    return true
  }

  #forget(): void {
    this.#slots.fill(0)
    this.#numWords = 0
    this.#numUnits = 0
    this.#numIds = 0
  }
}

/** The hash of a word for {@link WordCache}. */
export function hashWord(units: Uint16Array, start: number, end: number): number {
  let hash = 0x811c9dc5
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ (units[i] as number), 0x01000193)
  return hash ^ (hash >>> 15)
}

function slotOf(hash: number): number {
  return (hash & (numSlots - 1)) * slotSize
}
