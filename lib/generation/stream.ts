/** A running answer as an async iterable. */
import { InvalidArgumentError } from '../errors.js'
import { abortError, type Abort } from './abort.js'
import { EventQueue } from './event-queue.js'
import { identify, type CompletionIdentity } from './openai.js'
import type { GenerateResult, GenerationEvent } from './result.js'
import { serverSentEvents, toReadableStream } from './web-streams.js'

/** Runs the request; tells `emit` what happens. */
export type StartGeneration<Value = unknown> = (
  emit: (event: GenerationEvent) => void,
) => Promise<GenerateResult<Value>>

/**
 * The events of one answer, to be read once: as events, or as strings through `textStream`. Leaving the
 * loop cancels the request. A slow reader holds back nothing but its own queue.
 */
export class GenerationStream<Value = unknown> implements AsyncIterable<GenerationEvent> {
  /** The whole answer. Rejects as the iterator does; nobody has to look at it. */
  readonly result: Promise<GenerateResult<Value>>
  /** The text alone, piece by piece. Concatenated it is the result's `text`: with `n`, the first answer's. */
  readonly textStream: AsyncIterable<string> = {
    [Symbol.asyncIterator]: () =>
      this.#read((event) => event.type === 'text' && !event.index && event.text),
  }
  readonly #abort: Abort
  readonly #identity: CompletionIdentity
  readonly #events = new EventQueue<GenerationEvent>()
  #isRead = false

  constructor(
    abort: Abort,
    start: StartGeneration<Value>,
    identity = identify(undefined, 'qwen2-vl'),
  ) {
    this.#abort = abort
    this.#identity = identity
    this.result = start((event) => this.#events.push(event))
    this.result.then(
      () => this.#events.end(),
      (reason: unknown) => this.#events.end({ reason }),
    )
  }

  /**
   * Ends the request: iterator and `result` reject with `reason`, or with `onAbort: 'return'` end with
   * what there is.
   */
  abort(reason: unknown = abortError()): void {
    this.#abort.abort(reason)
  }

  /** The text as a web stream of strings; cancelling it cancels the request. */
  toReadableStream(): ReadableStream<string> {
    return toReadableStream(this.textStream)
  }

  /**
   * OpenAI's streamed chat completion, as the body of a response of type `text/event-stream`. An error
   * becomes its last event.
   */
  toSSE(): ReadableStream<Uint8Array> {
    return toReadableStream(serverSentEvents(this, this.result, this.#identity))
  }

  /** The events; leaving the loop cancels the request. */
  [Symbol.asyncIterator](): AsyncIterableIterator<GenerationEvent> {
    return this.#read((event) => event)
  }

  /** Iterates over what `select` makes of the events; `false` skips one. */
  #read<T>(select: (event: GenerationEvent) => T | false): AsyncIterableIterator<T> {
    if (this.#isRead) {
      throw new InvalidArgumentError(
        'This stream is already being read. Read it once, as events or through textStream; ' +
          'the whole answer is in stream.result.',
      )
    }
    this.#isRead = true
    const next = async (): Promise<IteratorResult<T, undefined>> => {
      for (;;) {
        const read = await this.#events.next()
        if (read.done) return read
        const value = select(read.value)
        if (value !== false) return { done: false, value }
      }
    }
    const leave = () => {
      this.#events.close()
      this.#abort.abort(abortError('The reader left the stream before its end.'))
      return Promise.resolve({ done: true as const, value: undefined })
    }
    const iterator: AsyncIterableIterator<T> = {
      next,
      return: leave,
      [Symbol.asyncIterator]: () => iterator,
    }
    return iterator
  }
}
