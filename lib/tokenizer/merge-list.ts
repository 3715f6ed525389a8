/** Merges as the files list them, before the tokens they name are looked up. */
import { bytesToToken, tokenToBytes } from './byte-alphabet.js'
import { grown } from './token-table.js'

/** Pairs of tokens, as bytes: the two of a pair stand one behind the other, as the merged one does. */
export class MergeList {
  #bytes = new Uint8Array(1 << 16)
  #numBytes = 0
  /** [size, 2]: the number of bytes of left and right. */
  #lengths = new Int32Array(1 << 12)
  #size = 0

  get size(): number {
    return this.#size
  }

  get bytes(): Uint8Array {
    return this.#bytes
  }

  /** Adds the merge of the next rank; false if a token has a character that stands for no byte. */
  add(left: string, right: string): boolean {
    const needed = this.#numBytes + left.length + right.length
    if (needed > this.#bytes.length) this.#bytes = grown(this.#bytes, needed)
    const at = this.#size * 2
    if (at + 2 > this.#lengths.length) this.#lengths = grown(this.#lengths, at + 2)
    const leftLength = tokenToBytes(left, this.#bytes, this.#numBytes)
    if (leftLength < 0) return false
    const rightLength = tokenToBytes(right, this.#bytes, this.#numBytes + leftLength)
    if (rightLength < 0) return false
    this.#lengths[at] = leftLength
    this.#lengths[at + 1] = rightLength
    this.#numBytes = needed
    this.#size++
    return true
  }

  /** The number of bytes of the left token of a merge. */
  leftLength(rank: number): number {
    return this.#lengths[rank * 2] as number
  }

  /** The number of bytes of the right token of a merge. */
  rightLength(rank: number): number {
    return this.#lengths[rank * 2 + 1] as number
  }

  /** A part of {@link bytes} as a token of the files. */
  token(start: number, length: number): string {
    return bytesToToken(this.#bytes.subarray(start, start + length))
  }
}
