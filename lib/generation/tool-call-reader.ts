/** Reads calls of tools out of an answer while it comes. */
import { randomBytes } from 'node:crypto'
import { marks } from '../chat/tool-marks.js'
import { codeInterpreter } from '../chat/tool-prompt.js'
import type { Tool, ToolUse } from '../chat/tools.js'
import { objectEnd } from './json-end.js'
import type { ToolCall } from './result.js'

const callMark = `${marks.call}:`
const argsMark = `${marks.args}:`

/**
 * Text goes in piece by piece. What comes before the first call comes out again, but for the white space
 * in front of a marker; a suffix that may begin a marker is held until it is decided. What stands behind
 * a call and is none is dropped.
 */
export class ToolCallReader {
  readonly #use: ToolUse
  readonly #ready: ToolCall[] = []
  #numFound = 0
  /** Not decided yet: text before the calls, or what follows the last mark of a call. */
  #held: string
  #state: 'text' | 'name' | 'args' | 'after'
  #name = ''

  constructor(use: ToolUse) {
    this.#use = use
    // The prompt ends in the beginning of the call that must be made.
    const forced = typeof use.choice === 'object' ? use.choice.name : undefined
    this.#held = forced ?? ''
    this.#state = forced === undefined ? 'text' : 'name'
  }

  /** There is a call, and there can be no other. */
  get isDone(): boolean {
    return !this.#use.parallel && this.#numFound > 0
  }

  /** Takes a piece and returns the text that may be shown. */
  push(piece: string): string {
    if (this.#state === 'text') return this.#pushText(piece)
    this.#held += piece
    this.#readCalls()
    return ''
  }

  /** The calls that are complete and not yet taken. */
  take(): ToolCall[] {
    return this.#ready.splice(0)
  }

  /**
   * The rest of the text before calls, at the end of the answer. A last call counts only where the model
   * ended the answer; otherwise it was cut off.
   */
  finish(isWhole: boolean): string {
    const { held, state } = { held: this.#held, state: this.#state }
    this.#held = ''
    this.#state = 'after'
    if (state === 'text') return withoutPartOfMark(held)
    if (isWhole) {
      if (state === 'name') this.#add(withoutPartOfMark(held).trim(), '')
      if (state === 'args') this.#add(this.#name, cutArguments(held))
    }
    return ''
  }

  #pushText(piece: string): string {
    const text = this.#held + piece
    const begin = text.indexOf(callMark)
    if (begin < 0) {
      this.#held = undecided.exec(text)?.[0] ?? ''
      return text.slice(0, text.length - this.#held.length)
    }
    this.#state = 'name'
    this.#held = text.slice(begin + callMark.length)
    this.#readCalls()
    return text.slice(0, begin).trimEnd()
  }

  /** Goes from mark to mark as far as they have come. */
  #readCalls(): void {
    while (!this.isDone && this.#readStep()) {
      // Each step takes a mark or a call.
    }
  }

  #readStep(): boolean {
    if (this.#state === 'args') {
      if (this.#takeValue()) return true
      // A marker in a string of theirs is none.
      if (this.#held.trimStart().startsWith('{')) return false
    }
    const next = this.#nextMark()
    if (next === undefined) return false
    const before = this.#held.slice(0, next.begin)
    this.#held = this.#held.slice(next.begin + next.mark.length)
    if (this.#state === 'args') this.#add(this.#name, cutArguments(before))
    if (this.#state === 'name') {
      this.#name = before.trim()
      if (next.mark === callMark) this.#add(this.#name, '')
    }
    this.#state = next.mark === callMark ? 'name' : 'args'
    return true
  }

  /** Arguments that are complete before anything follows them. */
  #takeValue(): boolean {
    const end = this.#name === codeInterpreter ? undefined : objectEnd(this.#held)
    if (end === undefined) return false
    const value = this.#held.slice(0, end)
    this.#held = this.#held.slice(end)
    this.#state = 'after'
    this.#add(this.#name, value.trim())
    return true
  }

  #nextMark(): { begin: number; mark: string } | undefined {
    const found = [callMark, argsMark]
      .map((mark) => ({ begin: this.#held.indexOf(mark), mark }))
      .filter(({ begin }) => begin >= 0)
    return found.sort((a, b) => a.begin - b.begin)[0]
  }

  #add(name: string, argumentsText: string): void {
    if (this.isDone) return
    const id = `call_${randomBytes(12).toString('hex')}`
    const tool = this.#use.tools.find((one) => one.name === name)
    ++this.#numFound
    this.#ready.push({ id, name, argumentsText, ...parseArguments(tool, name, argumentsText) })
  }
}

/** The value of the arguments, as the tool's own schema gives it. */
function parseArguments(
  tool: Tool | undefined,
  name: string,
  text: string,
): Pick<ToolCall, 'arguments' | 'error'> {
  if (name === codeInterpreter) return { arguments: withoutFences(text) }
  let value: unknown
  try {
    value = text === '' ? {} : JSON.parse(text)
  } catch {
    return { arguments: text, error: 'The arguments are not JSON.' }
  }
  if (tool === undefined) return { arguments: value, error: `There is no tool named '${name}'.` }
  const validated = tool.parameters.validate?.(value)
  if (validated === undefined) return { arguments: value }
  return 'error' in validated
    ? { arguments: value, error: `The arguments do not fit the tool's schema: ${validated.error}.` }
    : { arguments: validated.value }
}

/** Remarks of the model behind its arguments are no part of them. */
function cutArguments(given: string): string {
  const text = withoutPartOfMark(given).trim()
  if (text.startsWith('{') && text.includes('}')) return text.slice(0, text.lastIndexOf('}') + 1)
  const fence = text.lastIndexOf('\n```')
  return text.startsWith('```') && fence > 0 ? text.slice(0, fence + 4) : text
}

function withoutFences(text: string): string {
  return /^```[^\n]*\n([\s\S]*?)\n?```$/.exec(text)?.[1] ?? text
}

/** The beginnings of a word, itself included, as the source of a pattern. */
function beginningsOf(word: string): string {
  return word.split('').reduceRight((rest, unit) => `${unit}(?:${rest})?`, '')
}

const parts = [callMark, argsMark, marks.result, marks.return].map(beginningsOf).join('|')
/** White space, and what may be the beginning of a marker behind it. */
const undecided = new RegExp(`\\s*(?:${parts})?$`)
const partOfMark = new RegExp(`\\s*(?:${parts})$`)

/** What the end of an answer has cut off of a marker is no text. */
function withoutPartOfMark(text: string): string {
  return text.replace(partOfMark, '')
}
