/** The tokens of a vocabulary as bytes: by id, and by content. */
import { bytesToToken, tokenToBytes } from './byte-alphabet.js'

const none = -1

/** Ids whose bytes are copied at a stretch, well under 1 ms. */
const idsInSlice = 1 << 12

/**
 * Tokens by id and by bytes, in typed arrays. As strings in a map, the 151,643 tokens of a published
 * checkpoint take 15 MB and keep the garbage collector busy for longer than the event loop may wait.
 */
export class TokenTable {
  #bytes = new Uint8Array(1 << 16)
  #numBytes = 0
  /** Where the bytes of each id's token begin, and how many there are; none where it has no token. */
  #starts = new Int32Array(1 << 12)
  #lengths = new Int32Array(1 << 12).fill(none)
  #hashes = new Int32Array(1 << 12)
  /** Ids by the hash of their bytes; at most half full. */
  #slots = new Int32Array(1 << 13).fill(none)
  #numSlotsUsed = 0
  /** Tokens with a character that stands for no byte; they are never made by merges. */
  readonly #textById = new Map<number, string>()
  readonly #idByText = new Map<string, number>()
  #size = 0

  /** One more than the largest id. */
  get size(): number {
    return this.#size
  }

  /** Whether an id has a token. */
  has(id: number): boolean {
    return (this.#lengths[id] ?? none) !== none
  }

  /**
   * Adds a token as vocabularies write it, in the byte alphabet. The id must be free.
   *
   * @returns false if the table has the token under another id.
   */
  add(token: string, id: number): boolean {
    if (this.tokenToId(token) !== undefined) return false
    this.#reserve(id, token.length)
    const length = tokenToBytes(token, this.#bytes, this.#numBytes)
    if (length < 0) {
      this.addText(token, id)
      return true
    }
    this.#put(id, length)
    this.#insert(id)
    return true
  }

  /** Adds, or replaces, a token that stands for its own text. */
  addText(text: string, id: number): void {
    const utf8 = Buffer.from(text, 'utf8')
    this.#reserve(id, utf8.length)
    this.#bytes.set(utf8, this.#numBytes)
    this.#put(id, utf8.length)
    this.#textById.set(id, text)
    this.#idByText.set(text, id)
  }

  /** The id of the base token with the bytes `source[start, start + length)`, or -1. */
  find(source: Uint8Array, start: number, length: number): number {
    const hash = hashBytes(source, start, length)
    const mask = this.#slots.length - 1
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const id = this.#slots[slot] as number
      if (id === none) return none
      if (this.#hashes[id] !== hash || this.#lengths[id] !== length) continue
      const known = this.#starts[id] as number
      let i = 0
      while (i < length && this.#bytes[known + i] === source[start + i]) i++
      if (i === length) return id
    }
  }

  /** The id of a token as the files write it. */
  tokenToId(token: string): number | undefined {
    const id = this.#idByText.get(token)
    if (id !== undefined) return id
    const bytes = new Uint8Array(token.length)
    const length = tokenToBytes(token, bytes, 0)
    const found = length < 0 ? none : this.find(bytes, 0, length)
    return found === none || this.#textById.has(found) ? undefined : found
  }

  /** The token of an id as the files write it. */
  idToToken(id: number): string | undefined {
    if (!this.has(id)) return undefined
    return this.#textById.get(id) ?? bytesToToken(this.bytesOf(id))
  }

  /** The bytes an id stands for, in a view that must not be changed; empty where it has no token. */
  bytesOf(id: number): Uint8Array {
    if (!this.has(id)) return noBytes
    const start = this.#starts[id] as number
    return this.#bytes.subarray(start, start + (this.#lengths[id] as number))
  }

  /** The bytes of the wanted ids' tokens in order of id, and how many each id has there. */
  *copyBytes(
    isWanted: (id: number) => boolean,
  ): Generator<void, { bytes: Uint8Array; lengths: Int32Array }, void> {
    const lengths = new Int32Array(this.#size)
    const bytes = new Uint8Array(this.#numBytes)
    let end = 0
    for (let id = 0; id < this.#size; id++) {
      if (id % idsInSlice === 0) yield
      if (!this.has(id) || !isWanted(id)) continue
      const start = this.#starts[id] as number
      const length = this.#lengths[id] as number
      // Byte by byte: tokens are short, and a view of each would take ten times as long.
      for (let i = 0; i < length; i++) bytes[end++] = this.#bytes[start + i] as number
      lengths[id] = length
    }
    return { bytes: bytes.slice(0, end), lengths }
  }

  #put(id: number, length: number): void {
    this.#starts[id] = this.#numBytes
    this.#lengths[id] = length
    this.#numBytes += length
    this.#size = Math.max(this.#size, id + 1)
  }

  #insert(id: number): void {
    const start = this.#starts[id] as number
    this.#hashes[id] = hashBytes(this.#bytes, start, this.#lengths[id] as number)
    if (++this.#numSlotsUsed * 2 > this.#slots.length) {
      const old = this.#slots
      this.#slots = new Int32Array(old.length * 2).fill(none)
      for (const known of old) if (known !== none) this.#link(known)
    }
    this.#link(id)
  }

  #link(id: number): void {
    const mask = this.#slots.length - 1
    let slot = (this.#hashes[id] as number) & mask
    while (this.#slots[slot] !== none) slot = (slot + 1) & mask
    this.#slots[slot] = id
  }

  #reserve(id: number, numBytes: number): void {
    if (this.#numBytes + numBytes > this.#bytes.length) {
      this.#bytes = grown(this.#bytes, this.#numBytes + numBytes)
    }
    const numIds = this.#starts.length
    if (id < numIds) return
    this.#starts = grown(this.#starts, id + 1)
    this.#hashes = grown(this.#hashes, id + 1)
    this.#lengths = grown(this.#lengths, id + 1).fill(none, numIds)
  }
}

/** A copy with room for `needed` elements at least, and for as many again. */
export function grown<Data extends Uint8Array | Int32Array>(data: Data, needed: number): Data {
  const create = data.constructor as new (length: number) => Data
  const larger = new create(2 ** Math.ceil(Math.log2(Math.max(needed, data.length * 2))))
  larger.set(data)
  return larger
}

function hashBytes(bytes: Uint8Array, start: number, length: number): number {
  let hash = 0x811c9dc5
  for (let i = start; i < start + length; i++) {
    hash = Math.imul(hash ^ (bytes[i] as number), 0x01000193)
  }
  return hash ^ (hash >>> 15)
}

const noBytes = new Uint8Array(0)
