/** Answers that go on inside a turn that the prompt has left open behind the result of a tool. */
import type { Decoder } from './answer.js'

interface DecoderSource<Options> {
  isSpecial(id: number): boolean
  createDecoder(options?: Options): Decoder
}

/**
 * Decoders that leave out the `:` or `: ` with which such an answer begins. The prompt ends before it because
 * it may be one token with what follows.
 */
export function withoutLeadingColon<Options>(
  tokenizer: DecoderSource<Options>,
): DecoderSource<Options> {
  const isSpecial = (id: number) => tokenizer.isSpecial(id)
  const createDecoder = (options?: Options) =>
    new ContinuedDecoder(tokenizer.createDecoder(options), isSpecial)
  return { isSpecial, createDecoder }
}

class ContinuedDecoder implements Decoder {
  readonly #decoder: Decoder
  readonly #isSpecial: (id: number) => boolean
  /** What may still be left out. */
  #lead = ': '

  constructor(decoder: Decoder, isSpecial: (id: number) => boolean) {
    this.#decoder = decoder
    this.#isSpecial = isSpecial
  }

  push(id: number): string {
    // Also where special tokens are not shown, so that texts with and without them stay in step.
    if (this.#isSpecial(id)) this.#lead = ''
    return this.#cut(this.#decoder.push(id))
  }

  flush(): string {
    return this.#cut(this.#decoder.flush())
  }

  #cut(piece: string): string {
    let rest = piece
    while (rest !== '' && this.#lead !== '') {
      const isLead = rest[0] === this.#lead[0]
      this.#lead = isLead ? this.#lead.slice(1) : ''
      if (isLead) rest = rest.slice(1)
    }
    return rest
  }
}
