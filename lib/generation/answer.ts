/** Turns the ids of an answer into its text, piece by piece. */
import type { NormalizedGrounding } from '../grounding/geometry.js'
import type { GroundingReader } from '../grounding/reader.js'
import type { ToolCall } from './result.js'
import { StopStrings } from './stop-strings.js'
import type { ToolCallReader } from './tool-call-reader.js'

/** Gives the text that an id completes, and at the end what was left incomplete. */
export interface Decoder {
  push(id: number): string
  flush(): string
}

/** The answer so far. */
export class Answer {
  readonly tokenIds: number[] = []
  text = ''
  readonly #decoder: Decoder
  readonly #stopIds: ReadonlySet<number>
  readonly #stopStrings: StopStrings
  readonly #grounding: GroundingReader | undefined
  readonly #calls: ToolCallReader | undefined
  #stopped = false

  constructor(
    decoder: Decoder,
    stopIds: Iterable<number>,
    stopStrings: readonly string[],
    grounding?: GroundingReader,
    calls?: ToolCallReader,
  ) {
    this.#decoder = decoder
    this.#stopIds = new Set(stopIds)
    this.#stopStrings = new StopStrings(stopStrings)
    this.#grounding = grounding
    this.#calls = calls
  }

  /** A stop string was met, or the only call is complete: nothing comes after it. */
  get stopped(): boolean {
    return this.#stopped
  }

  /** Takes the next id and returns the text that may now be shown; often empty. */
  push(id: number): string {
    if (this.stopped) return ''
    this.tokenIds.push(id)
    // The token that ends the answer is no part of its text, whatever the tokenizer makes of it.
    if (this.#stopIds.has(id)) return ''
    this.#grounding?.push(id)
    return this.#append(this.#decoder.push(id))
  }

  /**
   * The rest of the text, after the last id.
   *
   * @param isWhole the answer was not cut off
   */
  finish(isWhole: boolean): string {
    let piece = this.stopped ? '' : this.#append(this.#decoder.flush())
    // After a stop string nothing is held.
    if (!this.stopped) piece += this.#show(this.#stopStrings.flush())
    const held = this.#calls?.finish(isWhole || this.stopped) ?? ''
    this.text += held
    return piece + held
  }

  /** The calls of tools that are complete and not yet taken. */
  takeCalls(): ToolCall[] {
    return this.#calls?.take() ?? []
  }

  /** What the answer has pointed at since the last call, up to the end of its text so far. */
  takeBoxes(): NormalizedGrounding[] {
    return this.#grounding?.take(this.text.length) ?? []
  }

  /** After {@link finish}: the answer with its special tokens, cut where the text is. */
  rawText(): string {
    return this.#grounding?.finish(this.text.length) ?? this.text
  }

  #append(piece: string): string {
    const { text, stopped } = this.#stopStrings.push(piece)
    const shown = this.#show(text)
    this.#stopped = stopped || (this.#calls?.isDone ?? false)
    return shown
  }

  /** What of the text is no call of a tool. */
  #show(text: string): string {
    const shown = this.#calls?.push(text) ?? text
    this.text += shown
    return shown
  }
}
