/** A running answer as web streams: text, and the server-sent events of OpenAI's API. */
import {
  ContextLengthError,
  FetchError,
  ImageError,
  InvalidArgumentError,
  Qwen2VLError,
  SchemaError,
  VideoError,
} from '../errors.js'
import {
  toFinishReason,
  toLogprobs,
  toMessageCall,
  toUsage,
  type ChatCompletionChunk,
  type CompletionIdentity,
} from './openai.js'
import type { GenerateResult, GenerationEvent } from './result.js'

/** Reads as its reader pulls; a reader that cancels leaves the iterator. */
export function toReadableStream<T>(source: AsyncIterable<T>): ReadableStream<T> {
  const iterator = source[Symbol.asyncIterator]()
  return new ReadableStream<T>({
    async pull(controller) {
      const read = await iterator.next()
      if (read.done) controller.close()
      else controller.enqueue(read.value)
    },
    async cancel() {
      await iterator.return?.()
    },
  })
}

/**
 * The events as lines `data: {…}` of chat completion chunks, closed by `data: [DONE]`. An error becomes
 * a line with an `error` and is the last one; it also rejects the stream's `result`.
 */
export async function* serverSentEvents(
  events: AsyncIterable<GenerationEvent>,
  result: Promise<GenerateResult>,
  identity: CompletionIdentity,
): AsyncGenerator<Uint8Array, void, void> {
  const encoder = new TextEncoder()
  const line = (data: object | string) =>
    encoder.encode(`data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`)
  try {
    for await (const chunk of chunksOf(events, result, identity)) yield line(chunk)
    yield line('[DONE]')
  } catch (error) {
    yield line({ error: toErrorBody(error) })
  }
}

/** Each answer begins with its role and ends with its reason. */
async function* chunksOf(
  events: AsyncIterable<GenerationEvent>,
  result: Promise<GenerateResult>,
  { id, created, model, includeUsage }: CompletionIdentity,
): AsyncGenerator<ChatCompletionChunk, void, void> {
  type Part = ChatCompletionChunk['choices'][number]
  const chunk = (choices: Part[]): ChatCompletionChunk => ({
    ...{ id, object: 'chat.completion.chunk', created, model, choices },
    ...(includeUsage && { usage: null }),
  })
  const begun = new Set<number>()
  const begin = (index: number): Part['delta'] => {
    if (begun.has(index)) return {}
    begun.add(index)
    return { role: 'assistant' }
  }
  const numCalls = new Map<number, number>()
  for await (const event of events) {
    if (event.type === 'tool-call') {
      const { index = 0 } = event
      const call = { index: numCalls.get(index) ?? 0, ...toMessageCall(event) }
      numCalls.set(index, call.index + 1)
      const delta = { ...begin(index), tool_calls: [call] }
      yield chunk([{ index, delta, logprobs: null, finish_reason: null }])
    }
    if (event.type !== 'text') continue
    const { index = 0, text, logprobs } = event
    const delta = { ...begin(index), content: text }
    yield chunk([
      { index, delta, logprobs: logprobs ? toLogprobs(logprobs) : null, finish_reason: null },
    ])
  }
  const { choices, usage } = await result
  for (const { index, finishReason } of choices) {
    const reason = toFinishReason(finishReason)
    yield chunk([{ index, delta: begin(index), logprobs: null, finish_reason: reason }])
  }
  if (includeUsage) yield { ...chunk([]), usage: toUsage(usage) }
}

/** What the one who sent the request can put right. */
const requestErrors = [
  ...[InvalidArgumentError, SchemaError, ContextLengthError],
  ...[ImageError, VideoError, FetchError],
]

function toErrorBody(error: unknown) {
  const message = error instanceof Error ? error.message : String(error)
  const code = Qwen2VLError.isInstance(error) ? error.code : 'ERR_ABORTED'
  const isOfRequest = requestErrors.some((type) => error instanceof type)
  const type = isOfRequest ? 'invalid_request_error' : 'server_error'
  return { message, type, param: null, code }
}
