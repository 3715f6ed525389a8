/** The byte-level BPE tokenizer of Qwen2: texts to token ids and back. */
import { AddedTokenMatcher } from './added-tokens.js'
import { BytePairEncoder } from './bpe.js'
import { StreamingDecoder } from './streaming-decoder.js'
import { runAtOnce, runInSlices } from './time-slice.js'
import { type AddedToken, readTokenizerFiles } from './tokenizer-files.js'
import { buildVocabulary, type Vocabulary } from './vocabulary.js'
import { windowsOf } from './windows.js'

/** Texts of a checkpoint's tokenizer files: `tokenizer.json`, or `vocab.json` with `merges.txt`. */
export interface TokenizerFiles {
  tokenizerJson?: string
  vocabJson?: string
  mergesTxt?: string
  tokenizerConfigJson?: string
}

/** How a text is encoded. */
export interface EncodeOptions {
  /** Whether `<|im_start|>` and the like are tokens (default) or plain text. */
  addedTokens?: boolean
}

/** How ids are decoded. */
export interface DecodeOptions {
  /** Leave out the tokens marked special, `<|im_end|>` or `<|box_start|>` for example. Default: true. */
  skipSpecialTokens?: boolean
}

/** Units of text that are worked on at a stretch, about 1 ms. */
const windowSize = 1 << 14

/** All characters below U+0300 are in NFC as they are. */
const firstToNormalize = 0x300

/** In a pattern with the flag u, a surrogate matches only where it has no partner. */
const loneSurrogates = /\p{Surrogate}/gu

/** A loaded tokenizer. It has no state that a caller could see, and one can serve all requests. */
export class Tokenizer {
  /** One more than the largest id of a token. */
  readonly vocabSize: number
  readonly #vocabulary: Vocabulary
  readonly #encoder: BytePairEncoder
  /** Looked for in the raw text. */
  readonly #rawTokens: AddedTokenMatcher
  /** Looked for after NFC. No published checkpoint has any; tokens added by hand often are so. */
  readonly #normalizedTokens: AddedTokenMatcher | undefined

  private constructor(vocabulary: Vocabulary, addedTokens: readonly AddedToken[]) {
    this.vocabSize = vocabulary.tokens.size
    this.#vocabulary = vocabulary
    this.#encoder = new BytePairEncoder(vocabulary)
    this.#rawTokens = new AddedTokenMatcher(addedTokens.filter((token) => !token.normalized))
    const normalized = addedTokens
      .filter((token) => token.normalized)
      .map(({ content, id }) => ({ content: content.normalize('NFC'), id }))
    if (normalized.length > 0) this.#normalizedTokens = new AddedTokenMatcher(normalized)
  }

  /**
   * Builds a tokenizer from the texts of a checkpoint's files, in slices that leave the event loop
   * free.
   *
   * @throws CheckpointError (`ERR_CHECKPOINT_TOKENIZER`) if the files are damaged, do not fit
   * together, or describe a tokenizer that is not of Qwen2's kind.
   */
  static async load(files: TokenizerFiles): Promise<Tokenizer> {
    const data = await runInSlices(readTokenizerFiles(files))
    return new Tokenizer(await runInSlices(buildVocabulary(data)), data.addedTokens)
  }

  /** The ids of a text, at once. For long texts take {@link encodeAsync}. */
  encode(text: string, options: EncodeOptions = {}): number[] {
    return runAtOnce(this.#encode(text, options))
  }

  /** The ids of a text, in slices that leave the event loop free. */
  encodeAsync(text: string, options: EncodeOptions = {}): Promise<number[]> {
    return runInSlices(this.#encode(text, options))
  }

  /** The text of ids. Bytes that are not UTF-8 become U+FFFD; ids without a token, nothing. */
  decode(ids: Iterable<number>, options: DecodeOptions = {}): string {
    return Buffer.concat(Array.from(ids, this.#bytesOf(options))).toString('utf8')
  }

  /** Decodes an answer token by token. */
  createDecoder(options: DecodeOptions = {}): StreamingDecoder {
    return new StreamingDecoder(this.#bytesOf(options))
  }

  /** The id of a token, which is written as in the files: base tokens in the byte alphabet. */
  tokenToId(token: string): number | undefined {
    return this.#vocabulary.tokens.tokenToId(token)
  }

  /** The token of an id, written as in the files. */
  idToToken(id: number): string | undefined {
    return this.#vocabulary.tokens.idToToken(id)
  }

  /** The bytes of a token; none for an id without one. */
  tokenBytes(id: number): Uint8Array {
    return this.#vocabulary.tokens.bytesOf(id)
  }

  /**
   * What all ids stand for: their bytes in order of id, and how many each has. Special tokens, and ids
   * without a token, have none. Works in slices that leave the event loop free.
   */
  textTable(): Promise<{ bytes: Uint8Array; lengths: Int32Array }> {
    const { tokens, special } = this.#vocabulary
    return runInSlices(tokens.copyBytes((id) => special[id] !== 1))
  }

  /** Whether `skipSpecialTokens` leaves the id out. */
  isSpecial(id: number): boolean {
    return this.#vocabulary.special[id] === 1
  }

  *#encode(text: string, { addedTokens = true }: EncodeOptions): Generator<void, number[], void> {
    const ids: number[] = []
    const isInsideToken = (cut: number) => addedTokens && this.#isInsideToken(text, cut)
    for (const window of windowsOf(text, windowSize, isInsideToken)) {
      if (window !== undefined) {
        for (const piece of addedTokens ? this.#rawTokens.split(window) : [window]) {
          if (typeof piece === 'number') ids.push(piece)
          else yield* this.#encodePlain(piece, addedTokens, ids)
        }
      }
      yield
    }
    return ids
  }

  *#encodePlain(text: string, addedTokens: boolean, ids: number[]): Generator<void, void, void> {
    const units = new Uint16Array(text.length)
    let isNormal = true
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i)
      units[i] = unit
      if (unit >= firstToNormalize) isNormal = false
    }
    if (isNormal && this.#normalizedTokens === undefined) {
      yield* this.#encoder.encode(units, units.length, ids)
      return
    }
    // The reference cannot be given lone surrogates at all; UTF-8 encoders replace them so.
    const normal = text.replace(loneSurrogates, '\ufffd').normalize('NFC')
    const matcher = addedTokens ? this.#normalizedTokens : undefined
    for (const piece of matcher?.split(normal) ?? [normal]) {
      if (typeof piece === 'number') {
        ids.push(piece)
        continue
      }
      const pieceUnits = piece === text ? units : unitsOf(piece)
      yield* this.#encoder.encode(pieceUnits, pieceUnits.length, ids)
    }
  }

  #isInsideToken(text: string, cut: number): boolean {
    if (this.#rawTokens.straddles(text, cut)) return true
    if (this.#normalizedTokens === undefined) return false
    // Decomposed text is at most a few times as long as composed text.
    const reach = 4 * this.#normalizedTokens.maxLength
    const before = text.slice(Math.max(0, cut - reach), cut).normalize('NFC')
    const after = text.slice(cut, cut + reach).normalize('NFC')
    return this.#normalizedTokens.straddles(before + after, before.length)
  }

  #bytesOf({ skipSpecialTokens = true }: DecodeOptions): (id: number) => Uint8Array {
    const { tokens, special } = this.#vocabulary
    return (id) => (skipSpecialTokens && special[id] === 1 ? noBytes : tokens.bytesOf(id))
  }
}

function unitsOf(text: string): Uint16Array {
  const units = new Uint16Array(text.length)
  for (let i = 0; i < text.length; i++) units[i] = text.charCodeAt(i)
  return units
}

const noBytes = new Uint8Array(0)
