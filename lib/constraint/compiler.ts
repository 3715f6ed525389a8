/** Makes grammars ready for one model, and keeps those that were used last. */
import { createHash } from 'node:crypto'
import { fromNativeError } from '../errors.js'
import type { NativeGrammar, NativeModel } from '../native.js'
import { Recent } from '../recent.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import { type Grammar, packGrammar } from './grammar.js'

/** Each may hold up to about 20 MB of states and masks that it has met. */
const maxKept = 8

/** One for a model: answers to equal grammars share what was worked out for them. */
export class GrammarCompiler {
  readonly #native: NativeModel
  readonly #tokenizer: Pick<Tokenizer, 'textTable'>
  #vocabulary: Promise<void> | undefined
  /** By a digest of the packed content. */
  readonly #compiled = new Recent<string, Promise<NativeGrammar>>(maxKept)
  /** The digests of grammars that were seen: requests of one form have the same object. */
  readonly #digests = new WeakMap<Grammar, string>()

  constructor(native: NativeModel, tokenizer: Pick<Tokenizer, 'textTable'>) {
    this.#native = native
    this.#tokenizer = tokenizer
  }

  /**
   * Checks and compiles, off the event loop.
   *
   * @throws InvalidArgumentError, whose `details.rule` names the rule, for a grammar that is not
   * well-formed, has left recursion, or matches no text.
   */
  compile(grammar: Grammar): Promise<NativeGrammar> {
    let packed: Int32Array | undefined
    let digest = this.#digests.get(grammar)
    if (digest === undefined) {
      packed = packGrammar(grammar)
      digest = createHash('sha256').update(packed).digest('base64')
      this.#digests.set(grammar, digest)
    }
    const key = digest
    return this.#compiled.get(key, () => this.#compile(packed ?? packGrammar(grammar), key))
  }

  async #compile(packed: Int32Array, key: string): Promise<NativeGrammar> {
    try {
      await this.#passVocabulary()
      return await this.#native.compileGrammar(packed)
    } catch (error) {
      this.#compiled.delete(key)
      throw fromNativeError(error)
    }
  }

  /** With the first grammar: most models never see one, and the vocabulary takes some 5 MB. */
  #passVocabulary(): Promise<void> {
    this.#vocabulary ??= (async () => {
      const { bytes, lengths } = await this.#tokenizer.textTable()
      await this.#native.setVocabulary(bytes, lengths)
    })().catch((error: unknown) => {
      this.#vocabulary = undefined // the next grammar tries again
      throw error
    })
    return this.#vocabulary
  }
}
