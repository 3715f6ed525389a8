/** Finds added tokens such as `<|im_start|>` in text: exact, the leftmost first, then the longest. */
import type { AddedToken } from './tokenizer-files.js'

/** A piece of text between added tokens, or one of them. */
export type Piece = string | number

/** Matches a set of added tokens. */
export class AddedTokenMatcher {
  readonly #ids: Map<string, number>
  readonly #pattern: RegExp | undefined
  /** Units of the longest token. */
  readonly maxLength: number

  constructor(tokens: readonly Pick<AddedToken, 'content' | 'id'>[]) {
    this.#ids = new Map(tokens.map(({ content, id }) => [content, id]))
    // A pattern takes the first alternative that matches, so the longest must come first.
    const contents = [...this.#ids.keys()].sort((a, b) => b.length - a.length)
    this.maxLength = contents[0]?.length ?? 0
    if (contents.length > 0) this.#pattern = new RegExp(contents.map(escaped).join('|'), 'g')
  }

  /** Cuts text into its pieces of plain text (never empty) and the ids of added tokens. */
  split(text: string): Piece[] {
    if (this.#pattern === undefined) return text === '' ? [] : [text]
    const pieces: Piece[] = []
    let start = 0
    for (const match of text.matchAll(this.#pattern)) {
      if (match.index > start) pieces.push(text.slice(start, match.index))
      pieces.push(this.#ids.get(match[0]) as number)
      start = match.index + match[0].length
    }
    if (start < text.length) pieces.push(text.slice(start))
    return pieces
  }

  /** Whether a token begins before `at` and ends after it. */
  straddles(text: string, at: number): boolean {
    for (let start = Math.max(0, at - this.maxLength + 1); start < at; start++) {
      for (const content of this.#ids.keys()) {
        if (start + content.length > at && text.startsWith(content, start)) return true
      }
    }
    return false
  }
}

function escaped(content: string): string {
  return content.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
}
