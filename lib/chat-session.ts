/** A conversation that keeps its own history. */
import { messagesToJson } from './chat/messages-to-json.js'
import {
  normalizeMessages,
  type ChatMessage,
  type ContentPart,
  type MessageToolCall,
} from './chat/messages.js'
import { toolsToJson } from './chat/tools.js'
import { formatToJson, type ObjectOf, type ResponseFormat } from './constraint/response-format.js'
import { InvalidArgumentError } from './errors.js'
import { Abort } from './generation/abort.js'
import type { GenerationCall } from './generation/generate.js'
import { identify, toMessageCall } from './generation/openai.js'
import {
  parseRequest,
  type FormatOption,
  type GenerateRequest,
  type RequestOptions,
} from './generation/options.js'
import type { MediaMemory } from './generation/prompt.js'
import type { GenerateResult, GenerationEvent } from './generation/result.js'
import { GenerationStream } from './generation/stream.js'

/** Options of one turn: those of a request, but for the conversation. */
export type TurnOptions<Format = ResponseFormat> = RequestOptions & FormatOption<Format>

/** How a chat begins, and the options that hold for each of its turns unless the turn names others. */
export type ChatOptions = TurnOptions & {
  /** The text of a system message that comes first. */
  system?: string
  /** What has been said so far. */
  messages?: readonly ChatMessage[]
}

/** What {@link Chat.toJSON} gives and `model.createChat()` takes. */
export type ChatJson = Omit<TurnOptions, 'signal' | 'abortSignal'> & { messages: ChatMessage[] }

/** One request of a chat. `memory` holds the media of the conversation, before and after. */
export interface Turn extends GenerationCall {
  request: GenerateRequest
  memory: MediaMemory
  abort: Abort
  emit?: (event: GenerationEvent) => void
}

/** What a chat needs of its model. */
export interface TurnRunner {
  /** What answers in OpenAI's form call the model. */
  name: string
  run(turn: Turn): Promise<GenerateResult>
}

/** The result of a call, whose id it names. */
export type ToolMessage = ChatMessage & { role: 'tool'; tool_call_id: string }

/** What a user says: a text, or a list of text, image and video parts; or the results of the calls before. */
export type ChatContent = string | readonly ContentPart[] | readonly ToolMessage[]

type CanonicalOptions = Omit<ReturnType<typeof parseRequest>, 'messages' | 'prompt'>

/**
 * A conversation: its messages, and nothing in the model that would have to be kept or given back. Each turn
 * sends the whole history; what the model has seen of it is found in the prefix cache by content. Images and
 * videos of earlier turns are not read, decoded and resized again.
 *
 * One turn at a time. A turn that fails, or is aborted, leaves the history as it was, also where
 * `onAbort: 'return'` gives the part so far. Where an answer calls tools, the next turn brings their results.
 */
export class Chat {
  readonly #runner: TurnRunner
  readonly #defaults: CanonicalOptions
  #messages: readonly ChatMessage[]
  /** Of the messages, in order of appearance; empty before the first turn. */
  #memory: MediaMemory
  #isAnswering = false

  /** Models make theirs; see `model.createChat()`. */
  constructor(
    runner: TurnRunner,
    defaults: CanonicalOptions,
    messages: readonly ChatMessage[],
    memory: MediaMemory = { items: [] },
  ) {
    this.#runner = runner
    this.#defaults = defaults
    this.#messages = messages
    this.#memory = memory
  }

  /** The conversation so far, with a system message where there is one. */
  get messages(): readonly ChatMessage[] {
    return [...this.#messages]
  }

  /** Says something and waits for the answer. Never throws synchronously. */
  send<const Format extends ResponseFormat = ResponseFormat>(
    content: ChatContent,
    options: TurnOptions<Format> = {},
  ): Promise<GenerateResult<ObjectOf<Format>>> {
    const result = this.#turn(content, options, { method: 'generate', abort: new Abort() })
    return result as Promise<GenerateResult<ObjectOf<Format>>>
  }

  /** Says something and gives the answer piece by piece. Leaving the loop aborts the turn. */
  stream<const Format extends ResponseFormat = ResponseFormat>(
    content: ChatContent,
    options: TurnOptions<Format> = {},
  ): GenerationStream<ObjectOf<Format>> {
    const abort = new Abort()
    const identity = identify({ ...this.#defaults, ...options }, this.#runner.name)
    const call = { method: 'stream', identity, abort } as const
    const start = (emit: (event: GenerationEvent) => void) =>
      this.#turn(content, options, { ...call, emit })
    return new GenerationStream(abort, start, identity) as GenerationStream<ObjectOf<Format>>
  }

  /** Another chat that begins with this one's history, without the turn that is being answered. */
  fork(): Chat {
    return new Chat(this.#runner, this.#defaults, this.#messages, this.#memory)
  }

  /**
   * Takes the last turns back: each is a user's message and all that follows it.
   *
   * @throws InvalidArgumentError for more turns than there are, and while a turn is being answered.
   */
  rewind(turns = 1): void {
    this.#refuseWhileAnswering()
    const starts = [...this.#messages.keys()].filter((i) => this.#messages[i]?.role === 'user')
    if (!Number.isSafeInteger(turns) || turns < 0 || turns > starts.length) {
      throw new InvalidArgumentError(
        `rewind(): this chat has ${starts.length} turns; ${String(turns)} of them cannot be taken back.`,
        { path: 'turns' },
      )
    }
    if (turns === 0) return
    this.#messages = this.#messages.slice(0, starts.at(-turns))
    this.#memory = { items: this.#memory.items.slice(0, countMedia(this.#messages)) }
  }

  /**
   * What `model.createChat()` takes to go on with this conversation, also after `JSON.stringify()`. Bytes of
   * images become `data:` URLs; a signal is left out.
   *
   * @throws InvalidArgumentError where a message holds what JSON cannot carry, as a stream.
   */
  toJSON(): ChatJson {
    const json = { ...this.#defaults, messages: messagesToJson(this.#messages) }
    delete json.signal
    if (json.tools) json.tools = toolsToJson(json.tools)
    if (json.responseFormat) json.responseFormat = formatToJson(json.responseFormat)
    return json
  }

  async #turn(
    content: ChatContent,
    options: TurnOptions,
    call: Omit<Turn, 'request' | 'memory'>,
  ): Promise<GenerateResult> {
    this.#refuseWhileAnswering()
    this.#isAnswering = true
    try {
      const own = canonical(options, this.#defaults)
      const messages = [...this.#messages, ...messagesOf(content)]
      const memory = { items: this.#memory.items }
      const request = { ...this.#defaults, ...own, messages } as GenerateRequest
      const result = await this.#runner.run({ request, memory, ...call })
      if (result.finishReason === 'abort') return result
      this.#messages = [...messages, toMessage(result)]
      this.#memory = memory
      return result
    } finally {
      this.#isAnswering = false
    }
  }

  #refuseWhileAnswering(): void {
    if (!this.#isAnswering) return
    throw new InvalidArgumentError(
      'This chat is answering another message. Wait for that answer, or fork() the chat.',
      { path: 'chat' },
    )
  }
}

/**
 * A chat of the model behind `runner`.
 *
 * @throws InvalidArgumentError for wrong options or messages.
 */
export function createChat(
  runner: TurnRunner,
  { system, messages = [], ...defaults }: ChatOptions,
): Chat {
  const checked = canonical(defaults)
  if (system !== undefined && typeof system !== 'string') {
    throw new InvalidArgumentError('createChat(): system must be a text.', { path: 'system' })
  }
  if (!Array.isArray(messages)) {
    throw new InvalidArgumentError('createChat(): messages must be a list of { role, content }.', {
      path: 'messages',
    })
  }
  const history = messages as readonly ChatMessage[]
  if (history.length > 0) normalizeMessages(withResults(history))
  if (system === undefined) return new Chat(runner, checked, history.map(copyOfMessage))
  if (history[0]?.role === 'system') {
    throw new InvalidArgumentError(
      'createChat(): there is a system message in messages already. Leave out system, or that message.',
      { path: 'system' },
    )
  }
  const first = { role: 'system', content: system }
  return new Chat(runner, checked, [first, ...history.map(copyOfMessage)])
}

/** Checked, and under their one name, so that a turn's `max_tokens` replaces a chat's `maxTokens`. */
function canonical(options: TurnOptions, defaults: CanonicalOptions = {}): CanonicalOptions {
  for (const name of ['messages', 'prompt']) {
    if ((options as Record<string, unknown>)[name] === undefined) continue
    throw new InvalidArgumentError(
      `A chat's turn takes no ${name}: the chat has its own. Give what the user says as content.`,
      { path: name },
    )
  }
  const checked = parseRequest({ ...options, messages: [] }, undefined, defaults)
  delete checked.messages
  return checked
}

/** Results of tools are messages of their own; everything else is what the user says. */
function messagesOf(content: ChatContent): ChatMessage[] {
  const [first] = typeof content === 'string' ? [] : content
  if (first === undefined || !('role' in first)) {
    return [{ role: 'user', content: copyOf(content as string | readonly ContentPart[]) }]
  }
  return (content as readonly ChatMessage[]).map((message, index) => {
    if (message.role === 'tool') return copyOfMessage(message)
    throw new InvalidArgumentError(
      `send(): content[${index}] is not a message of role 'tool'. Give what the user says as a text or a list of ` +
        "parts, or the results of calls as [{ role: 'tool', tool_call_id, content }].",
      { path: `content[${index}].role`, suggestion: 'tool' },
    )
  })
}

/** As the model said it, boxes included, but for pads, which would stand for pictures; and what it called. */
function toMessage({ text, rawText, toolCalls }: GenerateResult): ChatMessage {
  const content = /<\|(image|video)_pad\|>/.test(rawText) ? text : rawText
  if (toolCalls.length === 0) return { role: 'assistant', content }
  return { role: 'assistant', content, tool_calls: toolCalls.map(toMessageCall) }
}

/** A history may end in calls, whose results then come with the next turn. */
function withResults(history: readonly ChatMessage[]): readonly ChatMessage[] {
  const calls = history.at(-1)?.tool_calls
  if (!Array.isArray(calls)) return history
  const results = (calls as readonly (MessageToolCall | undefined)[]).map((call) => ({
    role: 'tool',
    tool_call_id: String(call?.id),
    content: '',
  }))
  return [...history, ...results]
}

function countMedia(messages: readonly ChatMessage[]): number {
  return messages.length === 0 ? 0 : normalizeMessages(messages).media.length
}

/** So that a list that is reused by its owner does not change the history. */
function copyOf<Content extends ChatMessage['content']>(content: Content): Content | ContentPart[] {
  return Array.isArray(content)
    ? (content as readonly ContentPart[]).map((part) => ({ ...part }))
    : content
}

function copyOfMessage(message: ChatMessage): ChatMessage {
  return { ...message, content: copyOf(message.content) }
}
