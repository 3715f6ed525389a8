/** One request from its options to its result. */
import { fromNativeError } from '../errors.js'
import { GroundingReader } from '../grounding/reader.js'
import type { NativeGenerationEvent, NativeModel, NativeStats } from '../native.js'
import type { Abort } from './abort.js'
import { Answer } from './answer.js'
import { FoundBoxes } from './found-boxes.js'
import { mergeOptions, parseRequest, type EffectiveOptions } from './options.js'
import { preparePrompt, type Prompt, type PromptContext } from './prompt.js'
import type { GenerateResult, GenerationEvent, ImageResult, Timings, Usage } from './result.js'

/** What requests to one model share. */
export interface GenerationContext extends PromptContext {
  native: NativeModel
  /** The most tokens of prompt and answer together. */
  contextSize: number
  /** Ids that end an answer. */
  stopIds: Int32Array
}

/**
 * Runs a request. Rejects with the abort's reason as soon as there is one; the native side then ends
 * within one step, by itself.
 */
export async function runGeneration(
  context: GenerationContext,
  request: unknown,
  abort: Abort,
  emit: (event: GenerationEvent) => void = () => {},
): Promise<GenerateResult> {
  const begin = performance.now()
  try {
    const { messages, signal, ...given } = parseRequest(request)
    const merged = mergeOptions(given, context.checkpoint.generation)
    if (signal) abort.follow(signal)
    abort.throwIfAborted()
    const prompt = await preparePrompt(context, { messages, ...given }, abort)
    const preprocessMs = performance.now() - begin

    const contextLeft = context.contextSize - prompt.tokenIds.length
    // Where nothing is left, the engine says so with all the figures.
    const options = { ...merged, maxTokens: Math.min(merged.maxTokens, Math.max(contextLeft, 1)) }
    const usage: Usage = { ...prompt.counts, cachedTokens: 0, completionTokens: 0 }
    const answer = new Answer(
      context.tokenizer.createDecoder(),
      context.stopIds,
      options.stop,
      new GroundingReader(context.tokenizer),
    )
    const found = new FoundBoxes(prompt.pictureSize)
    emit({ type: 'start', usage, images: prompt.images })
    const useCache = given.cache ?? true
    const { reason, stats } = await decode(
      context,
      prompt,
      options,
      useCache,
      answer,
      found,
      abort,
      emit,
    )
    const result = toResult(answer, found, reason, { prompt, options, stats, preprocessMs })
    const { finishReason, timings } = result
    emit({ type: 'finish', finishReason, usage: result.usage, timings })
    return result
  } finally {
    abort.close()
  }
}

type Finish = Extract<NativeGenerationEvent, { type: 'finish' }>

/** Lets the engine generate and collects its tokens in `answer`. */
function decode(
  { native, stopIds }: GenerationContext,
  prompt: Prompt,
  options: EffectiveOptions,
  useCache: boolean,
  answer: Answer,
  found: FoundBoxes,
  abort: Abort,
  emit: (event: GenerationEvent) => void,
): Promise<Finish> {
  return new Promise((resolve, reject) => {
    const show = (text: string) => {
      const tokenId = answer.tokenIds.at(-1)
      if (text !== '' && tokenId !== undefined) emit({ type: 'text', text, tokenId })
      for (const item of answer.takeBoxes()) emit(found.add(item))
    }
    const onEvent = (event: NativeGenerationEvent) => {
      if (abort.aborted) return
      if (event.type === 'token') {
        show(answer.push(event.id))
        if (answer.stopped) generation.cancel()
      } else if (event.type === 'finish') {
        show(answer.finish())
        resolve(event)
      } else {
        reject(toError(event.error))
      }
    }
    let generation: ReturnType<NativeModel['generate']>
    try {
      generation = native.generate(
        {
          prompt: prompt.tokenIds,
          items: prompt.items,
          sampling: {
            ...options,
            noRepeatNgramSize: 0,
            logitBias: [],
            seed: BigInt(options.seed),
          },
          stopIds,
          maxTokens: options.maxTokens,
          useCache,
          logProbabilities: false,
          topLogits: 0,
        },
        onEvent,
      )
    } catch (error) {
      throw toError(error)
    }
    abort.onAbort(() => {
      generation.cancel()
      resolve(abort.rejection())
    })
  })
}

interface Facts {
  prompt: Prompt
  options: EffectiveOptions
  stats: NativeStats
  preprocessMs: number
}

function toResult(
  answer: Answer,
  { boxes, unplacedBoxes }: FoundBoxes,
  reason: Finish['reason'],
  { prompt, options, stats, preprocessMs }: Facts,
): GenerateResult {
  const completionTokens = answer.tokenIds.length
  return {
    text: answer.text,
    rawText: answer.rawText(),
    boxes,
    unplacedBoxes,
    // The only cancel that comes here is our own, at a stop string.
    finishReason: reason === 'length' && !answer.stopped ? 'length' : 'stop',
    usage: { ...prompt.counts, cachedTokens: stats.cachedTokens, completionTokens },
    timings: toTimings(stats, preprocessMs, completionTokens),
    images: toImageResults(prompt, stats.reusedItems),
    seed: options.seed,
    options,
    tokenIds: answer.tokenIds,
  }
}

/** `reused` is by item, of which videos are some. */
function toImageResults({ items, images }: Prompt, reused: readonly boolean[]): ImageResult[] {
  const cached = reused.filter((_, index) => items[index]?.isVideo === false)
  return images.map((info, index) => ({ ...info, cached: cached[index] ?? false }))
}

function toTimings(stats: NativeStats, preprocessMs: number, completionTokens: number): Timings {
  const seconds = stats.decodeMs / 1000
  return {
    queueMs: stats.queueMs,
    preprocessMs,
    visionMs: stats.visionMs,
    prefillMs: stats.prefillMs,
    firstTokenMs: preprocessMs + stats.firstTokenMs,
    decodeMs: stats.decodeMs,
    tokensPerSecond: completionTokens > 1 && seconds > 0 ? (completionTokens - 1) / seconds : 0,
  }
}

function toError(error: unknown): Error {
  return fromNativeError(error) as Error
}
