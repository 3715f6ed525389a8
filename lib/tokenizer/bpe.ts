/** Byte-pair encoding of words: the pair of lowest rank merges first, the leftmost among equals. */
import type { MergeTable } from './merge-table.js'
import { MergeQueue } from './merge-queue.js'
import { PreTokenizer } from './pretokenizer.js'
import { writeUtf8 } from './utf8.js'
import type { Vocabulary } from './vocabulary.js'
import { hashWord, WordCache } from './word-cache.js'

/** Longer words (in UTF-16 units) merge through a queue, which costs n log n instead of n². */
const maxShortWord = 64
const mergesPerStep = 4096
const none = -1

/** Encodes text, in UTF-16 units, that has been normalised and freed of added tokens. */
export class BytePairEncoder {
  readonly #byteIds: Int32Array
  readonly #merges: MergeTable
  readonly #words = new PreTokenizer()
  readonly #cache = new WordCache()
  readonly #bytes = new Uint8Array(maxShortWord * 3)
  /** The symbols of a short word, and the merge of each with the next. */
  readonly #symbols = new Int32Array(maxShortWord * 3)
  readonly #handles = new Int32Array(maxShortWord * 3)

  constructor({ byteIds, merges }: Pick<Vocabulary, 'byteIds' | 'merges'>) {
    this.#byteIds = byteIds
    this.#merges = merges
  }

  /** Appends the ids of `units[0, length)` to `ids`; yields only inside words of absurd length. */
  *encode(units: Uint16Array, length: number, ids: number[]): Generator<void, void, void> {
    let at = 0
    while (at < length) {
      at = this.#encodeShortWords(units, at, length, ids)
      if (at < length) {
        const end = this.#words.wordEnd(units, at, length)
        yield* this.#encodeLongWord(units.subarray(at, end), ids)
        at = end
      }
    }
  }

  /** Encodes words up to the first long one and returns where that begins, or the text's end. */
  #encodeShortWords(units: Uint16Array, start: number, length: number, ids: number[]): number {
    let at = start
    while (at < length) {
      const end = this.#words.wordEnd(units, at, length)
      if (end - at > maxShortWord) return at
      const hash = hashWord(units, at, end)
      if (!this.#cache.find(units, at, end, hash, ids)) {
        const firstId = ids.length
        this.#encodeShortWord(units, at, end, ids)
        this.#cache.add(units, at, end, hash, ids, firstId)
      }
      at = end
    }
    return at
  }

  #encodeShortWord(units: Uint16Array, start: number, end: number, ids: number[]): void {
    const symbols = this.#symbols
    const handles = this.#handles
    let count = writeUtf8(units, start, end, this.#bytes)
    for (let i = 0; i < count; i++) {
      symbols[i] = this.#byteIds[this.#bytes[i] as number] as number
      if (i > 0) handles[i - 1] = this.#merges.find(symbols[i - 1] as number, symbols[i] as number)
    }
    for (;;) {
      const at = this.#bestMerge(count - 1)
      if (at === none) break
      symbols[at] = this.#merges.merged(handles[at] as number)
      symbols.copyWithin(at + 1, at + 2, count)
      handles.copyWithin(at + 1, at + 2, count - 1)
      count--
      if (at > 0) handles[at - 1] = this.#merges.find(symbols[at - 1] as number, symbols[at])
      if (at + 1 < count) {
        handles[at] = this.#merges.find(symbols[at], symbols[at + 1] as number)
      }
    }
    for (let i = 0; i < count; i++) ids.push(symbols[i] as number)
  }

  /** The leftmost of the merges of lowest rank among `handles[0, count)`. */
  #bestMerge(count: number): number {
    let best = none
    let bestRank = Infinity
    for (let i = 0; i < count; i++) {
      const handle = this.#handles[i] as number
      if (handle === none) continue
      const rank = this.#merges.rank(handle)
      if (rank < bestRank) {
        best = i
        bestRank = rank
      }
    }
    return best
  }

  /** Linked symbols and a queue of merges; the symbol at the place of its first byte stands for all. */
  *#encodeLongWord(units: Uint16Array, ids: number[]): Generator<void, void, void> {
    const bytes = new Uint8Array(units.length * 3)
    const count = writeUtf8(units, 0, units.length, bytes)
    const symbols = new Int32Array(count)
    const next = new Int32Array(count)
    const previous = new Int32Array(count)
    const handles = new Int32Array(count).fill(none)
    const queue = new MergeQueue(count)

    const offer = (left: number, right: number) => {
      const handle = this.#merges.find(symbols[left] as number, symbols[right] as number)
      handles[left] = handle
      if (handle !== none) queue.push(this.#merges.rank(handle), left)
    }
    for (let i = 0; i < count; i++) {
      symbols[i] = this.#byteIds[bytes[i] as number] as number
      next[i] = i + 1
      previous[i] = i - 1
      if (i > 0) offer(i - 1, i)
      if (i % mergesPerStep === mergesPerStep - 1) yield
    }
    for (let steps = 1; queue.size > 0; steps++) {
      const { rank, position } = queue.pop()
      const handle = handles[position] as number
      // What was offered before a neighbour merged no longer holds.
      if (handle !== none && this.#merges.rank(handle) === rank) {
        const merged = next[position] as number
        const after = next[merged] as number
        symbols[position] = this.#merges.merged(handle)
        handles[merged] = none
        handles[position] = none
        next[position] = after
        if (after < count) {
          previous[after] = position
          offer(position, after)
        }
        const before = previous[position] as number
        if (before >= 0) offer(before, position)
      }
      if (steps % mergesPerStep === 0) yield
    }
    for (let i = 0; i < count; i = next[i] as number) {
      if (ids.push(symbols[i] as number) % mergesPerStep === 0) yield
    }
  }
}
