/** Decodes an answer token by token without ever showing half a character. */
import { completePrefixLength } from './utf8.js'

/** Where the bytes of a token come from. */
export interface TokenBytes {
  /** The bytes of the token; empty for an id without a token, or one to be left out. */
  (id: number): Uint8Array
}

const none = new Uint8Array(0)

/** Turns ids, one by one, into text. Concatenated, the pieces equal the text decoded at once. */
export class StreamingDecoder {
  readonly #bytesOf: TokenBytes
  /** At most 3 bytes: the beginning of a character that may yet be completed. */
  #pending: Uint8Array = none

  constructor(bytesOf: TokenBytes) {
    this.#bytesOf = bytesOf
  }

  /** Takes the next id and returns the text that is now complete, which may be empty. */
  push(id: number): string {
    const token = this.#bytesOf(id)
    if (token.length === 0) return ''
    const bytes = this.#pending.length === 0 ? token : Buffer.concat([this.#pending, token])
    const length = completePrefixLength(bytes)
    this.#pending = length === bytes.length ? none : bytes.subarray(length)
    return decodeUtf8(bytes.subarray(0, length))
  }

  /** Ends the text: returns U+FFFD if it stopped inside a character. */
  flush(): string {
    const text = decodeUtf8(this.#pending)
    this.#pending = none
    return text
  }
}

function decodeUtf8(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
}
