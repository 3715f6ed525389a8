/** Results in the form of OpenAI's chat completions. */
import { randomUUID } from 'node:crypto'
import type { TokenLogprob, TopLogprob } from './logprobs.js'
import type { MessageToolCall } from '../chat/messages.js'
import type { Choice, FinishReason, GenerateResult, ToolCall, Usage } from './result.js'

/** The body that OpenAI's `/v1/chat/completions` answers with. */
export interface ChatCompletion {
  id: string
  object: 'chat.completion'
  /** Seconds since 1970. */
  created: number
  model: string
  choices: {
    index: number
    message: {
      role: 'assistant'
      /** null where the answer is nothing but calls. */
      content: string | null
      refusal: null
      tool_calls?: MessageToolCall[]
    }
    logprobs: ChatCompletionLogprobs | null
    finish_reason: ChatCompletionFinishReason
  }[]
  usage: ChatCompletionUsage
}

/** Why an answer ended, in OpenAI's words. */
export type ChatCompletionFinishReason = 'stop' | 'length' | 'tool_calls'

/** One `data:` line of a streamed chat completion. */
export interface ChatCompletionChunk {
  id: string
  object: 'chat.completion.chunk'
  created: number
  model: string
  choices: {
    index: number
    delta: {
      role?: 'assistant'
      content?: string
      /** Each call comes whole. */
      tool_calls?: (MessageToolCall & { index: number })[]
    }
    logprobs: ChatCompletionLogprobs | null
    finish_reason: ChatCompletionFinishReason | null
  }[]
  usage?: ChatCompletionUsage | null
}

/** Token counts as OpenAI names them. */
export interface ChatCompletionUsage {
  prompt_tokens: number
  completion_tokens: number
  total_tokens: number
  prompt_tokens_details: { cached_tokens: number }
}

/** A token and its log probability. */
export interface ChatCompletionTopLogprob {
  token: string
  bytes: number[] | null
  logprob: number
}

/** The tokens of an answer, each with the likeliest in its place. */
export interface ChatCompletionLogprobs {
  content: (ChatCompletionTopLogprob & { top_logprobs: ChatCompletionTopLogprob[] })[]
  refusal: null
}

/** What the result of one call, whole or in chunks, is called. */
export interface CompletionIdentity {
  id: string
  created: number
  model: string
  /** Whether the chunks end with one that has the token counts. */
  includeUsage: boolean
}

/**
 * Of a request as the caller gave it. It may be wrong: the call then rejects, and what is read here is
 * never seen.
 */
export function identify(request: unknown, defaultModel: string): CompletionIdentity {
  const { model, streamOptions, stream_options } = (request ?? {}) as Record<string, unknown>
  const options = (streamOptions ?? stream_options ?? {}) as Record<string, unknown>
  return {
    id: `chatcmpl-${randomUUID()}`,
    created: Math.floor(Date.now() / 1000),
    model: typeof model === 'string' ? model : defaultModel,
    includeUsage: options['include_usage'] === true,
  }
}

/** OpenAI has no word for an answer that was cut off, except at its length. */
export function toFinishReason(reason: FinishReason): ChatCompletionFinishReason {
  if (reason === 'tool-calls') return 'tool_calls'
  return reason === 'stop' ? 'stop' : 'length'
}

/** A call as OpenAI's messages have it; so it goes into the history as well. */
export function toMessageCall({ id, name, argumentsText }: ToolCall): MessageToolCall {
  return { id, type: 'function', function: { name, arguments: argumentsText || '{}' } }
}

export function toChatCompletion(
  { choices, usage }: Pick<GenerateResult, 'choices' | 'usage'>,
  { id, created, model }: CompletionIdentity,
  stopIds: Int32Array,
): ChatCompletion {
  return {
    id,
    object: 'chat.completion',
    created,
    model,
    choices: choices.map((choice) => ({
      index: choice.index,
      message: toMessage(choice),
      logprobs: choice.logprobs ? toLogprobs(contentLogprobs(choice, stopIds)) : null,
      finish_reason: toFinishReason(choice.finishReason),
    })),
    usage: toUsage(usage),
  }
}

function toMessage({ text, toolCalls }: Choice): ChatCompletion['choices'][number]['message'] {
  if (toolCalls.length === 0) return { role: 'assistant', content: text, refusal: null }
  return {
    role: 'assistant',
    content: text === '' ? null : text,
    refusal: null,
    tool_calls: toolCalls.map(toMessageCall),
  }
}

export function toUsage({ promptTokens, completionTokens, cachedTokens }: Usage) {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  } satisfies ChatCompletionUsage
}

export function toLogprobs(logprobs: readonly TokenLogprob[]): ChatCompletionLogprobs {
  const entry = ({ token, bytes, logprob }: TopLogprob) => ({ token, bytes, logprob })
  return {
    content: logprobs.map((one) => ({ ...entry(one), top_logprobs: one.topLogprobs.map(entry) })),
    refusal: null,
  }
}

/** The token that ends an answer is not content. */
function contentLogprobs({ logprobs = [] }: Choice, stopIds: Int32Array): TokenLogprob[] {
  return logprobs.filter(({ tokenId }) => !stopIds.includes(tokenId))
}
