/**
 * Histories of tool use. OpenAI's clients keep a call, its results and the answer as messages of their own;
 * Qwen2-VL was trained on one assistant turn that holds them all, between markers.
 */
import { invalid, isRecord, nameOf, quoted, refuseUnknownKeys } from './checks.js'
import type {
  MediaPart,
  MessageToolCall,
  NormalizedMessages,
  TemplateMessage,
  TemplatePart,
} from './messages.js'
import { marks } from './tool-marks.js'

/** A checked message, before turns are joined. */
export interface ReadMessage extends TemplateMessage {
  path: string
  media: MediaPart[]
  /** Of an assistant; empty in most messages. */
  calls: MessageToolCall[]
  /** Of a tool: the id of its call, as it was given. */
  resultOf?: unknown
}

/** Checks the `tool_calls` of an assistant's message. */
export function readToolCalls(calls: unknown, path: string): MessageToolCall[] {
  if (calls === undefined) return []
  if (!Array.isArray(calls)) {
    throw invalid(path, `${path} must be a list of calls, not ${nameOf(calls)}.`)
  }
  const read = calls.map((call: unknown, index) => readToolCall(call, `${path}[${index}]`))
  read.forEach(({ id }, index) => {
    if (read.findIndex((other) => other.id === id) === index) return
    throw invalid(
      `${path}[${index}].id`,
      `${path}[${index}].id is '${id}', as that of a call before it. Give each call an id of its own.`,
    )
  })
  return read
}

function readToolCall(call: unknown, path: string): MessageToolCall {
  if (!isRecord(call)) {
    throw invalid(
      path,
      `${path} must be { id, type: 'function', function: { name, arguments } }, not ${nameOf(call)}.`,
    )
  }
  refuseUnknownKeys(call, ['id', 'type', 'function'], path)
  const { type = 'function', function: called } = call
  if (type !== 'function') {
    throw invalid(
      `${path}.type`,
      `${path}.type must be 'function'; the model knows no other calls.`,
    )
  }
  if (!isRecord(called)) {
    throw invalid(
      `${path}.function`,
      `${path}.function must be { name, arguments }, not ${nameOf(called)}.`,
    )
  }
  refuseUnknownKeys(called, ['name', 'arguments'], `${path}.function`)
  const given = called['arguments']
  if (typeof given !== 'string') {
    throw invalid(
      `${path}.function.arguments`,
      `${path}.function.arguments must be a string of JSON, not ${nameOf(given)}. ` +
        'Use JSON.stringify() for an object.',
    )
  }
  const id = nonEmpty(call['id'], `${path}.id`)
  const name = nonEmpty(called['name'], `${path}.function.name`)
  return { id, type, function: { name, arguments: given } }
}

function nonEmpty(value: unknown, path: string): string {
  if (typeof value === 'string' && value !== '') return value
  throw invalid(path, `${path} must be a text that is not empty, not ${nameOf(value)}.`)
}

/**
 * Joins an assistant's calls, their results and what it says next into one turn. Messages without calls stay
 * as they are, and so does a tool's message in a history in which nothing is called.
 *
 * @throws InvalidArgumentError where calls and results do not match.
 */
export function joinToolTurns(read: readonly ReadMessage[]): NormalizedMessages {
  const messages: TemplateMessage[] = []
  const media: MediaPart[] = []
  let continues = false
  let hasCalls = false
  let next = 0
  for (let message = read[next]; message; message = read[next]) {
    if (message.calls.length > 0) {
      const turn = new ToolTurn()
      next = turn.readFrom(read, next)
      messages.push({ role: message.role, content: turn.content() })
      media.push(...turn.media)
      continues = turn.isOpen
      hasCalls = true
      continue
    }
    if (hasCalls && message.role === 'tool') throw resultWithoutCall(message, [])
    messages.push({ role: message.role, content: message.content })
    media.push(...message.media)
    continues = false
    ++next
  }
  return { messages, media, continues }
}

/** One assistant turn that grows message by message. */
class ToolTurn {
  /** In the order in which they stand in the turn. */
  readonly media: MediaPart[] = []
  /** It ends in a result, after which the model has not spoken yet. */
  isOpen = false
  readonly #parts: TemplatePart[] = []

  /** Takes the message at `start` and those that belong to its turn; gives the index of the first that does not. */
  readFrom(read: readonly ReadMessage[], start: number): number {
    let next = start
    for (;;) {
      const message = read[next]
      if (message?.role !== 'assistant') break
      ++next
      if (this.isOpen) this.#write(': ')
      this.isOpen = false
      this.#take(message)
      if (message.calls.length === 0) return next
      const end = read.findIndex(({ role }, index) => index >= next && role !== 'tool')
      const results = read.slice(next, end < 0 ? read.length : end)
      next += results.length
      this.#takeCalls(message, results)
    }
    // Someone else speaks: the assistant has said nothing more.
    if (this.isOpen && next < read.length) {
      this.#write(': ')
      this.isOpen = false
    }
    return next
  }

  /** Text alone as a string, which every template knows. */
  content(): string | TemplatePart[] {
    const [first] = this.#parts
    return this.#parts.length === 1 && first?.type === 'text' ? first.text : this.#parts
  }

  #takeCalls(message: ReadMessage, results: readonly ReadMessage[]): void {
    for (const call of message.calls) {
      const { name, arguments: given } = call.function
      const newline = this.#parts.length > 0 ? '\n' : ''
      const fenced = given.startsWith('```') ? '\n' : ''
      this.#write(`${newline}${marks.call}: ${name}\n${marks.args}: ${fenced}${given}`)
    }
    for (const result of matchResults(message, results)) {
      this.#write(`\n${marks.result}: `)
      this.#take(result)
    }
    this.#write(`\n${marks.return}`)
    this.isOpen = true
  }

  #take({ content, media }: ReadMessage): void {
    if (typeof content === 'string') this.#write(content)
    else {
      for (const part of content) {
        if (part.type === 'text') this.#write(part.text)
        else this.#parts.push(part)
      }
    }
    this.media.push(...media)
  }

  #write(text: string): void {
    if (text === '') return
    const last = this.#parts.at(-1)
    if (last?.type === 'text') last.text += text
    else this.#parts.push({ type: 'text', text })
  }
}

/** The results in the order of their calls. */
function matchResults(
  { calls, path }: ReadMessage,
  results: readonly ReadMessage[],
): readonly ReadMessage[] {
  const byId = new Map<string, ReadMessage>()
  for (const result of results) {
    const id = result.resultOf
    if (typeof id !== 'string' || !calls.some((call) => call.id === id)) {
      throw resultWithoutCall(result, calls)
    }
    const other = byId.get(id)
    if (other) {
      throw invalid(
        `${result.path}.tool_call_id`,
        `${result.path}.tool_call_id is '${id}', whose result is ${other.path} already. Give one result ` +
          'for each call; it may have several parts.',
      )
    }
    byId.set(id, result)
  }
  return calls.map(({ id }, index) => {
    const result = byId.get(id)
    if (result) return result
    throw invalid(
      `${path}.tool_calls[${index}]`,
      `${path}.tool_calls[${index}] ('${id}') has no result. Add { role: 'tool', tool_call_id: '${id}', ` +
        'content } after that message, or leave the call out.',
    )
  })
}

function resultWithoutCall(
  { path, resultOf }: ReadMessage,
  calls: readonly MessageToolCall[],
): Error {
  const given = typeof resultOf === 'string' ? `'${resultOf}'` : nameOf(resultOf)
  const known =
    calls.length > 0
      ? `The calls before it are ${quoted(calls.map(({ id }) => id))}.`
      : 'Put it right behind the assistant message with the call in its tool_calls.'
  return invalid(
    `${path}.tool_call_id`,
    `${path}.tool_call_id is ${given}, which is no call of the assistant message before it. ${known}`,
  )
}
