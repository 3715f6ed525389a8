/** One request from its options to its result. */
import { workOf } from './estimate.js'
import type { GrammarCompiler } from '../constraint/compiler.js'
import { readResponseFormat } from '../constraint/response-format.js'
import type { NativeModel, NativeStats } from '../native.js'
import { answerGrammar } from './answer-grammar.js'
import type { Abort } from './abort.js'
import { emptyChoice, runChoice, type ChoiceContext, type FinishedChoice } from './choice.js'
import { resolveLogitBias } from './logit-bias.js'
import { identify, toChatCompletion, type CompletionIdentity } from './openai.js'
import { followRequest, mergeOptions, parseRequest, type EffectiveOptions } from './options.js'
import type { Pace } from './pace.js'
import { preparePrompt, type Prompt, type PromptContext } from './prompt.js'
import type { Choice, GenerateResult, GenerationEvent, ImageResult, Usage } from './result.js'
import { toTimings } from './timings.js'

/** What requests to one model share. */
export interface GenerationContext extends PromptContext {
  native: NativeModel
  /** What answers in OpenAI's form call the model, where the request does not. */
  name: string
  pace: Pace
  /** The most tokens of prompt and answer together. */
  contextSize: number
  /** The longest draft of speculative prompt lookup, where the request does not say. */
  promptLookupTokens: number
  /** Ids that end an answer. */
  stopIds: Int32Array
  grammars: GrammarCompiler
}

/** How a request is called, and what its result is called in OpenAI's forms. */
export interface GenerationCall {
  method?: 'generate' | 'stream'
  identity?: CompletionIdentity
}

/**
 * Runs a request. Rejects with the abort's reason as soon as there is one, unless the request wants the
 * part so far; the native side then ends within one step, by itself.
 */
export async function runGeneration(
  context: GenerationContext,
  request: unknown,
  abort: Abort,
  emit: (event: GenerationEvent) => void = () => {},
  { method, identity = identify(request, context.name) }: GenerationCall = {},
): Promise<GenerateResult> {
  const begin = performance.now()
  try {
    const given = parseRequest(request, method)
    const { checkpoint, tokenizer, contextSize } = context
    const bias = resolveLogitBias(given.logitBias ?? {}, tokenizer, checkpoint.config.vocabSize)
    const merged = mergeOptions(given, checkpoint.generation, bias)
    followRequest(abort, given)
    const keepPart = given.onAbort === 'return'
    const prompt = await promptOrNothing(context, given, abort, keepPart)
    const preprocessMs = performance.now() - begin
    if (prompt === undefined) {
      const result = emptyResult(merged, preprocessMs, identity)
      tellEnd(result, emit)
      return result
    }

    // Where nothing is left, the engine says so with all the figures.
    const contextLeft = Math.max(contextSize - prompt.tokenIds.length, 1)
    const options = { ...merged, maxTokens: Math.min(merged.maxTokens, contextLeft) }
    const usage: Usage = { ...noTokens, ...prompt.counts }
    emit({ type: 'start', usage, images: prompt.images })
    const { cache: useCache = true, priority = 0 } = given
    const { toolUse, continues } = prompt
    const format = readResponseFormat(given.responseFormat)
    const grammar = answerGrammar({ format, toolUse, continues })
    const compiled = grammar && (await abort.race(context.grammars.compile(grammar)))
    const form = { toolUse, format, grammar: compiled }
    const maxDraftTokens = given.promptLookupTokens ?? context.promptLookupTokens
    const run = { priority, useCache, maxDraftTokens, abort, keepPart, emit }
    const choices = { prompt, options, ...form, ...run }
    const finished = await runChoices(context, choices)
    const [first] = finished
    if (first !== undefined && finished.length === 1) {
      const work = workOf(checkpoint.config, prompt.media, prompt.tokenIds.length)
      context.pace.noteWork(work, first.stats)
    }
    const result = toResult(finished, { prompt, options, preprocessMs, identity, context })
    tellEnd(result, emit)
    return result
  } finally {
    abort.close()
  }
}

/** The prompt, or undefined where an abort whose part is wanted came before it. */
async function promptOrNothing(
  context: PromptContext,
  request: Parameters<typeof preparePrompt>[1],
  abort: Abort,
  keepPart: boolean,
): Promise<Prompt | undefined> {
  try {
    abort.throwIfAborted()
    return await preparePrompt(context, request, abort)
  } catch (error) {
    if (keepPart && abort.isWanted) return undefined
    throw error
  }
}

type ChoicesRequest = Omit<ChoiceContext, 'native' | 'tokenizer' | 'stopIds' | 'pace'>

/** All answers at once; the failure of one is the failure of all. */
async function runChoices(
  { native, tokenizer, stopIds, pace }: GenerationContext,
  request: ChoicesRequest,
): Promise<FinishedChoice[]> {
  const choices: Promise<FinishedChoice>[] = []
  try {
    for (let index = 0; index < request.options.n; ++index) {
      choices.push(runChoice({ native, tokenizer, stopIds, pace, ...request }, index))
    }
    return await Promise.all(choices)
  } catch (error) {
    for (const choice of choices) choice.catch(() => {})
    request.abort.abort(error)
    throw error
  }
}

interface Facts {
  prompt: Prompt
  options: EffectiveOptions
  preprocessMs: number
  identity: CompletionIdentity
  context: Pick<GenerationContext, 'stopIds'>
}

function toResult(
  finished: readonly FinishedChoice[],
  { prompt, options, preprocessMs, identity, context }: Facts,
): GenerateResult {
  const choices = finished.map(({ choice }) => choice)
  const completionTokens = choices.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0)
  const all = finished.map(({ stats }) => stats)
  const { cachedTokens, reusedItems } = all[0] ?? noStats
  const sum = (key: 'draftTokens' | 'acceptedDraftTokens') =>
    all.reduce((total, stats) => total + stats[key], 0)
  return complete(choices, identity, context.stopIds, {
    usage: {
      ...prompt.counts,
      cachedTokens,
      completionTokens,
      draftTokens: sum('draftTokens'),
      acceptedDraftTokens: sum('acceptedDraftTokens'),
    },
    timings: toTimings(all, preprocessMs, completionTokens),
    images: toImageResults(prompt, reusedItems),
    videos: prompt.videos,
    options,
  })
}

/** `reused` is by item, of which videos are some. */
function toImageResults({ items, images }: Prompt, reused: readonly boolean[]): ImageResult[] {
  const cached = reused.filter((_, index) => items[index]?.isVideo === false)
  return images.map((info, index) => ({ ...info, cached: cached[index] ?? false }))
}

const noStats: NativeStats = {
  promptTokens: 0,
  cachedTokens: 0,
  completionTokens: 0,
  draftTokens: 0,
  acceptedDraftTokens: 0,
  queueMs: 0,
  visionMs: 0,
  prefillMs: 0,
  firstTokenMs: 0,
  decodeMs: 0,
  reusedItems: [],
}
const noTokens: Usage = {
  promptTokens: 0,
  textTokens: 0,
  imageTokens: 0,
  videoTokens: 0,
  cachedTokens: 0,
  completionTokens: 0,
  draftTokens: 0,
  acceptedDraftTokens: 0,
}

/** Of a request that was aborted before its prompt was known. */
function emptyResult(
  options: EffectiveOptions,
  preprocessMs: number,
  identity: CompletionIdentity,
): GenerateResult {
  const choices = Array.from({ length: options.n }, (_, index) => emptyChoice(index, options))
  return complete(choices, identity, new Int32Array(0), {
    usage: noTokens,
    timings: { ...toTimings([noStats], preprocessMs, 0), firstTokenMs: 0 },
    images: [],
    videos: [],
    options,
  })
}

type Rest = Pick<GenerateResult, 'usage' | 'timings' | 'images' | 'videos' | 'options'>

function complete(
  choices: Choice[],
  identity: CompletionIdentity,
  stopIds: Int32Array,
  rest: Rest,
): GenerateResult {
  const [first] = choices
  if (first === undefined) throw new Error('a result needs a choice')
  const mirrored: Partial<Choice> & Omit<Choice, 'index'> = { ...first }
  delete mirrored.index
  const data = { ...mirrored, choices, ...rest }
  const toOpenAI = () => toChatCompletion(data, identity, stopIds)
  return Object.defineProperty(data, 'toOpenAI', { value: toOpenAI }) as GenerateResult
}

function tellEnd(
  { finishReason, usage, timings }: GenerateResult,
  emit: (event: GenerationEvent) => void,
): void {
  emit({ type: 'finish', finishReason, usage, timings })
}
