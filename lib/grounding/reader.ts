/** Reads boxes out of an answer while it comes, token by token. */
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import type { NormalizedGrounding } from './geometry.js'
import { parseMarked } from './parse.js'

interface Stretch {
  text: string
  isSpecial: boolean
}

/** What it needs of a tokenizer. */
interface MarkedDecoding extends Pick<Tokenizer, 'isSpecial'> {
  createDecoder(options: { skipSpecialTokens: false }): {
    push(id: number): string
    flush(): string
  }
}

/**
 * Follows an answer with its special tokens kept. It is told how much of the text without them has been
 * shown, and gives a box once all text before its end is out: what a stop string may yet cut off is held.
 */
export class GroundingReader {
  readonly #isSpecial: (id: number) => boolean
  readonly #decoder: { push(id: number): string; flush(): string }
  readonly #stretches: Stretch[] = []
  #raw = ''
  /** Length of the answer without special tokens. */
  #visible = 0
  readonly #waiting: { item: NormalizedGrounding; visible: number }[] = []
  #numFound = 0

  constructor(tokenizer: MarkedDecoding) {
    this.#isSpecial = (id) => tokenizer.isSpecial(id)
    this.#decoder = tokenizer.createDecoder({ skipSpecialTokens: false })
  }

  /** Takes the next id, but not the one that ends the answer. */
  push(id: number): void {
    const isSpecial = this.#isSpecial(id)
    this.#append(this.#decoder.push(id), isSpecial)
    if (!isSpecial || !this.#raw.endsWith('_end|>')) return
    const { found } = parseMarked(this.#raw)
    for (const { item } of found.slice(this.#numFound)) {
      this.#waiting.push({ item, visible: this.#visible })
    }
    this.#numFound = found.length
  }

  /** The items that are complete and not yet taken, when `shown` characters of the text have been shown. */
  take(shown: number): NormalizedGrounding[] {
    const count = this.#waiting.findIndex(({ visible }) => visible > shown)
    const ready = this.#waiting.splice(0, count < 0 ? this.#waiting.length : count)
    return ready.map(({ item }) => item)
  }

  /** After the last id: the answer with its special tokens, ending with `shown` characters of the others. */
  finish(shown: number): string {
    this.#append(this.#decoder.flush(), false)
    let raw = ''
    let left = shown
    for (const { text, isSpecial } of this.#stretches) {
      if (isSpecial) {
        raw += text
        continue
      }
      raw += text.slice(0, left)
      left -= text.length
      if (left < 0) break
    }
    return raw
  }

  #append(text: string, isSpecial: boolean): void {
    if (text === '') return
    this.#raw += text
    if (!isSpecial) this.#visible += text.length
    const last = this.#stretches.at(-1)
    if (last?.isSpecial === isSpecial) last.text += text
    else this.#stretches.push({ text, isSpecial })
  }
}
