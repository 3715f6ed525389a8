/** One answer to a prompt: runs it on the engine and collects what comes. */
import type { AnswerFormat } from '../constraint/response-format.js'
import { fromNativeError } from '../errors.js'
import { GroundingReader } from '../grounding/reader.js'
import type {
  NativeGenerationEvent,
  NativeGenerationRequest,
  NativeGrammar,
  NativeModel,
  NativeStats,
} from '../native.js'
import { toolStops } from '../chat/tool-marks.js'
import type { ToolUse } from '../chat/tools.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import type { Abort } from './abort.js'
import { Answer } from './answer.js'
import { withoutLeadingColon } from './continued.js'
import { FoundBoxes } from './found-boxes.js'
import { toTokenLogprob, type TokenLogprob } from './logprobs.js'
import type { EffectiveOptions } from './options.js'
import type { Pace } from './pace.js'
import type { Prompt } from './prompt.js'
import type { Choice, FinishReason, GenerationEvent, ToolCall } from './result.js'
import { ToolCallReader } from './tool-call-reader.js'

/** What answers to one prompt share. */
export interface ChoiceContext {
  native: NativeModel
  tokenizer: Tokenizer
  /** Ids that end an answer. */
  stopIds: Int32Array
  pace: Pace
  prompt: Prompt
  options: EffectiveOptions
  toolUse?: ToolUse | undefined
  format?: AnswerFormat | undefined
  /** What the answer must look like; absent = anything. */
  grammar?: NativeGrammar | undefined
  /** Higher runs first. */
  priority: number
  /** Whether blocks and visual tokens that are known may be taken, and new ones be kept. */
  useCache: boolean
  /** The longest draft of speculative prompt lookup. */
  maxDraftTokens: number
  abort: Abort
  /** An abort ends the answer with what is there, rather than with its reason. */
  keepPart: boolean
  emit: (event: GenerationEvent) => void
}

/** An answer and what the engine says about it. */
export interface FinishedChoice {
  choice: Choice
  stats: NativeStats
}

/**
 * The seed of an answer: that of the request for the first, the next numbers for the others, so that
 * each can be had alone.
 */
function seedOf(index: number, { seed }: EffectiveOptions): number {
  const next = seed + index
  return next <= Number.MAX_SAFE_INTEGER ? next : next - Number.MAX_SAFE_INTEGER - 1
}

/** Lets the engine generate answer `index`. */
export function runChoice(context: ChoiceContext, index: number): Promise<FinishedChoice> {
  const { native, abort } = context
  const collector = new ChoiceCollector(context, index)
  const keepsPart = () => context.keepPart && abort.isWanted
  return new Promise((resolve, reject) => {
    let unfollow = () => {}
    const onEvent = (event: NativeGenerationEvent) => {
      if (abort.aborted && !keepsPart()) return
      if (event.type === 'token') {
        if (abort.aborted) collector.drop()
        else if (collector.push(event)) generation.cancel()
        return
      }
      unfollow()
      if (event.type === 'error') {
        reject(toError(event.error))
      } else {
        context.pace.note(event.stats)
        resolve({ choice: collector.finish(event.reason), stats: event.stats })
      }
    }
    let generation: ReturnType<NativeModel['generate']>
    try {
      generation = native.generate(toNativeRequest(context, index), onEvent)
    } catch (error) {
      throw context.pace.explain(toError(error))
    }
    unfollow = abort.onAbort(() => {
      generation.cancel()
      // With the part kept, the engine's last event settles the answer, within one step.
      if (!keepsPart()) resolve(abort.rejection())
    })
  })
}

function toNativeRequest(
  { prompt, options, stopIds, priority, useCache, maxDraftTokens, grammar }: ChoiceContext,
  index: number,
): NativeGenerationRequest {
  const { logitBias, maxTokens, logprobs, topLogprobs } = options
  return {
    prompt: prompt.tokenIds,
    items: prompt.items,
    sampling: {
      ...options,
      logitBias: Object.entries(logitBias).map(([id, bias]) => ({ id: Number(id), bias })),
      seed: BigInt(seedOf(index, options)),
    },
    stopIds,
    maxTokens,
    priority,
    useCache,
    maxDraftTokens,
    logProbabilities: logprobs,
    topLogits: topLogprobs,
    grammar,
  }
}

/** An answer that ended before it began. */
export function emptyChoice(index: number, options: EffectiveOptions): Choice {
  return {
    index,
    text: '',
    rawText: '',
    boxes: [],
    unplacedBoxes: [],
    toolCalls: [],
    finishReason: 'abort',
    seed: seedOf(index, options),
    tokenIds: [],
    ...(options.logprobs && { logprobs: [] }),
  }
}

class ChoiceCollector {
  readonly #context: ChoiceContext
  readonly #index: number
  readonly #answer: Answer
  readonly #found: FoundBoxes
  readonly #calls: ToolCall[] = []
  readonly #logprobs: TokenLogprob[] = []
  /** How many of them the stream has been told. */
  #told = 0
  #isCut = false

  constructor(context: ChoiceContext, index: number) {
    const { tokenizer, stopIds, options, prompt, toolUse } = context
    this.#context = context
    this.#index = index
    const decoders = prompt.continues ? withoutLeadingColon(tokenizer) : tokenizer
    const grounding = new GroundingReader(decoders)
    const stops = toolUse ? [...options.stop, ...toolStops] : options.stop
    const calls = toolUse && new ToolCallReader(toolUse)
    this.#answer = new Answer(decoders.createDecoder(), stopIds, stops, grounding, calls)
    this.#found = new FoundBoxes(prompt.pictureSize)
  }

  /** Takes a token; true when the answer is to end behind it. */
  push(event: Extract<NativeGenerationEvent, { type: 'token' }>): boolean {
    const { options, tokenizer } = this.#context
    if (this.#answer.stopped) return true
    if (options.logprobs) this.#logprobs.push(toTokenLogprob(event, tokenizer))
    this.#show(this.#answer.push(event.id))
    return this.#answer.stopped
  }

  /** A token came after the abort: it is no part of the answer any more, which therefore has no end. */
  drop(): void {
    this.#isCut = true
  }

  finish(reason: 'stop' | 'length' | 'cancelled'): Choice {
    this.#show(this.#answer.finish(reason === 'stop'))
    const { options } = this.#context
    const { boxes, unplacedBoxes } = this.#found
    const finishReason = this.#finishReason(reason)
    return {
      index: this.#index,
      text: this.#answer.text,
      rawText: this.#answer.rawText(),
      boxes,
      unplacedBoxes,
      toolCalls: this.#calls,
      ...this.#object(finishReason),
      finishReason,
      seed: seedOf(this.#index, options),
      tokenIds: this.#answer.tokenIds,
      ...(options.logprobs && { logprobs: this.#logprobs }),
    }
  }

  #finishReason(reason: 'stop' | 'length' | 'cancelled'): FinishReason {
    // Our own cancel at a stop string or a call; any other is an abort.
    if (this.#answer.stopped || reason === 'stop') {
      return this.#calls.length > 0 ? 'tool-calls' : 'stop'
    }
    return this.#isCut || reason === 'cancelled' ? 'abort' : reason
  }

  #object(finishReason: FinishReason): Pick<Choice, 'object' | 'objectError'> {
    const { format, options } = this.#context
    if (!format?.parse || finishReason === 'tool-calls') return {}
    const parsed = format.parse(this.#answer.text)
    const isWhole = finishReason === 'stop'
    // A number, or one of several choices, may be the beginning of another.
    const hasEnd = isWhole || /[}\]"]$/.test(this.#answer.text)
    if ('value' in parsed && hasEnd) return { object: parsed.value }
    if ('error' in parsed && isWhole && !this.#answer.stopped) return { objectError: parsed.error }
    return { objectError: whyIncomplete(finishReason, options.maxTokens) }
  }

  #show(text: string): void {
    const { emit, options } = this.#context
    const index = options.n > 1 ? { index: this.#index } : {}
    const tokenId = this.#answer.tokenIds.at(-1)
    if (text !== '' && tokenId !== undefined) {
      emit({ type: 'text', text, tokenId, ...index, ...this.#newLogprobs() })
    }
    for (const item of this.#answer.takeBoxes()) emit({ ...this.#found.add(item), ...index })
    for (const call of this.#answer.takeCalls()) {
      this.#calls.push(call)
      emit({ type: 'tool-call', ...call, ...index })
    }
  }

  #newLogprobs(): { logprob?: number; logprobs?: TokenLogprob[] } {
    const last = this.#logprobs.at(-1)
    if (!last) return {}
    const { stopIds } = this.#context
    const logprobs = this.#logprobs
      .slice(this.#told)
      .filter(({ tokenId }) => !stopIds.includes(tokenId))
    this.#told = this.#logprobs.length
    return { logprob: last.logprob, logprobs }
  }
}

function whyIncomplete(finishReason: FinishReason, maxTokens: number): string {
  if (finishReason === 'abort') return 'The answer was aborted before it was complete.'
  return finishReason === 'length'
    ? `The answer was not complete after ${maxTokens} tokens. Raise maxTokens, or ask for less.`
    : 'The answer met a stop string before it was complete. Leave out stop.'
}

function toError(error: unknown): Error {
  return fromNativeError(error) as Error
}
