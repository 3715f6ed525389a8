/** Finds stop strings in a stream of text pieces. */

/**
 * Text goes in piece by piece; what can no longer be part of a stop string comes out. A stop string
 * may straddle pieces, so a suffix that begins one is held back until it is decided.
 *
 * The stop string that is complete first ends the text, and of several complete at once the longest:
 * what comes out does not depend on where the pieces were cut.
 */
export class StopStrings {
  readonly #stops: readonly string[]
  #held = ''

  constructor(stops: readonly string[]) {
    this.#stops = stops
  }

  /** The text that may be shown now, and whether a stop string was reached (it is not in the text). */
  push(piece: string): { text: string; stopped: boolean } {
    if (this.#stops.length === 0) return { text: piece, stopped: false }
    const text = this.#held + piece
    const end = this.#firstStop(text)
    if (end !== undefined) {
      this.#held = ''
      return { text: text.slice(0, end), stopped: true }
    }
    const held = this.#undecidedSuffix(text)
    this.#held = text.slice(text.length - held)
    return { text: text.slice(0, text.length - held), stopped: false }
  }

  /** What was held back, when the answer ended otherwise. */
  flush(): string {
    const held = this.#held
    this.#held = ''
    return held
  }

  /** Where the stop string begins that ends first. */
  #firstStop(text: string): number | undefined {
    let first: { begin: number; end: number } | undefined
    for (const stop of this.#stops) {
      const begin = text.indexOf(stop)
      if (begin < 0) continue
      const end = begin + stop.length
      if (!first || end < first.end || (end === first.end && begin < first.begin)) {
        first = { begin, end }
      }
    }
    return first?.begin
  }

  /** Length of the longest suffix of `text` with which one of the stop strings begins. */
  #undecidedSuffix(text: string): number {
    const longest = Math.max(...this.#stops.map((stop) => stop.length)) - 1
    for (let length = Math.min(longest, text.length); length > 0; --length) {
      const suffix = text.slice(text.length - length)
      if (this.#stops.some((stop) => stop.startsWith(suffix))) return length
    }
    return 0
  }
}
