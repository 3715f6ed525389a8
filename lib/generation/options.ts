/** The options of a request: one schema gives types, messages and names; and how they are merged. */
import { randomInt } from 'node:crypto'
import { z } from 'zod'
import type { ChatMessage, RawPrompt } from '../chat/messages.js'
import { readToolUse, type ToolChoice, type ToolDefinition } from '../chat/tools.js'
import type { GenerationDefaults } from '../checkpoint/checkpoint.js'
import { readResponseFormat, type ResponseFormat } from '../constraint/response-format.js'
import { InvalidArgumentError } from '../errors.js'
import { answerGrammar } from './answer-grammar.js'
import type { Abort } from './abort.js'
import { parseOptions } from './parse-options.js'

/** What of a `generation_config.json` bears on sampling. */
export type SamplingDefaults = Partial<
  Pick<
    GenerationDefaults,
    | 'doSample'
    | 'temperature'
    | 'topP'
    | 'topK'
    | 'minP'
    | 'repetitionPenalty'
    | 'noRepeatNgramSize'
  >
>

/** Longest time that a timer of Node waits. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1
/** The longest draft of speculative prompt lookup. */
export const MAX_DRAFT_TOKENS = 64
/** Far beyond use; sums of scores stay finite in float32. */
const MAX_BIAS = 1e9

/** Half a character of two units would cut an answer inside the character. */
const stopString = z
  .string()
  .min(1)
  .refine((text) => !/\p{Surrogate}/u.test(text), { error: 'must not have lone surrogates' })

const requestSchema = z.strictObject({
  /** The conversation. Content is a string or a list of text, image and video parts. */
  messages: z.array(z.custom<ChatMessage>()).optional(),
  /**
   * Instead of messages: a text, or a list of texts and content parts, which goes to the model as it is,
   * for base checkpoints or a chat format of one's own.
   */
  prompt: z.custom<RawPrompt>().optional(),
  /** The longest answer in tokens. Default: 1024, or what the context leaves if that is less. */
  maxTokens: z.int().min(1).optional(),
  /** 0 = greedy; above 0 = sampling, also where the checkpoint's default is nearly greedy. */
  temperature: z.number().min(0).max(100).optional(),
  /** Sample from the smallest set of tokens whose probability reaches this. 1 = off. */
  topP: z.number().min(0).max(1).optional(),
  /** Sample from this many best tokens. 0 = off. */
  topK: z.int().min(0).optional(),
  /** Drop tokens less likely than this fraction of the likeliest. 0 = off. */
  minP: z.number().min(0).max(1).optional(),
  /** The spelling of transformers: `false` is `temperature: 0`, `true` samples. */
  doSample: z.boolean().optional(),
  /** Divides the logits of tokens that occur in prompt or answer. 1 = off. */
  repetitionPenalty: z.number().min(1e-3).max(1e3).optional(),
  /** Subtracted once for each time a token occurs in the answer. */
  frequencyPenalty: z.number().min(-10).max(10).optional(),
  /** Subtracted from tokens that occur in the answer. */
  presencePenalty: z.number().min(-10).max(10).optional(),
  /** How many last tokens the penalties look at. -1 = all. */
  penaltyLastN: z.int().min(-1).optional(),
  /** No sequence of this many tokens occurs twice in prompt and answer. 0 = off. */
  noRepeatNgramSize: z
    .int()
    .min(0)
    .max(2 ** 31 - 1)
    .optional(),
  /**
   * Added to the logits of tokens, before everything else. A key is a token id, or a text that is
   * exactly one token; a key of digits alone is an id. -100 bans, 100 forces.
   */
  logitBias: z.record(z.string(), z.number().min(-MAX_BIAS).max(MAX_BIAS)).optional(),
  /** Makes sampling reproducible. Default: random, and returned in the result. */
  seed: z.int().min(0).optional(),
  /** The answer ends before the first of these strings; none of it is returned. */
  stop: z.union([stopString, z.array(stopString)]).optional(),
  /** How many answers to the one prompt. Answer i is the one that `seed + i` alone gives. */
  n: z.int().min(1).max(128).optional(),
  /** Whether the result says how likely each token was. */
  logprobs: z.boolean().optional(),
  /** How many of the likeliest tokens come with each of the answer, 0 to 20. Above 0, `logprobs` is on. */
  topLogprobs: z.int().min(0).max(20).optional(),
  /**
   * The form that the answer is to have, which every token of it then keeps to: JSON that fits a schema, a
   * regular expression, a grammar, or one of some texts. A Zod or Standard Schema object is one too.
   */
  responseFormat: z.custom<ResponseFormat>().optional(),
  /** Functions that the model may ask the caller to run. */
  tools: z.custom<readonly ToolDefinition[]>().optional(),
  /** Whether it may (`'auto'`), must (`'required'`), or must not (`'none'`), or the one that it must. Default: `'auto'`. */
  toolChoice: z.custom<ToolChoice>().optional(),
  /** One answer may have several calls. Default: false, as in the reference. */
  parallelToolCalls: z.boolean().optional(),
  /** Number the images and videos in the prompt ("Picture 1: "), so that questions can refer to them. */
  addVisionId: z.boolean().optional(),
  /** End the prompt with the beginning of an assistant turn. Default: true. */
  addGenerationPrompt: z.boolean().optional(),
  /** A Jinja template instead of the checkpoint's. */
  chatTemplate: z.string().min(1).optional(),
  /**
   * `false`: the beginning of the prompt and the images are computed anew, and nothing is kept for later
   * requests. The answer is the same. Default: true.
   */
  cache: z.boolean().optional(),
  /**
   * Of the requests that wait, those with a higher number begin first; equal ones in order of arrival. A
   * request that has begun is not set back for one that waits. The answer is the same. Default: 0.
   */
  priority: z.int().min(-1000).max(1000).optional(),
  /**
   * Speculative prompt lookup: where the last tokens stood before, in the prompt or in the answer so far, up
   * to this many tokens that followed there are verified together in one step. The answer is the same. 0 =
   * off. Default: the model's.
   */
  promptLookupTokens: z.int().min(0).max(MAX_DRAFT_TOKENS).optional(),
  /** Aborts the request: it rejects with `signal.reason` and stops computing within one step. */
  signal: z.instanceof(AbortSignal).optional(),
  /** Ends the request with a TimeoutError after this many milliseconds, waiting included. */
  timeoutMs: z.number().min(1).max(MAX_TIMEOUT_MS).optional(),
  /**
   * What an abort or a timeout does: `'throw'` rejects; `'return'` resolves with the answer so far and
   * `finishReason: 'abort'`.
   */
  onAbort: z.enum(['throw', 'return']).optional(),
  /** Named in `toOpenAI()` and `toSSE()`; the model that answers is the one that was loaded. */
  model: z.string().min(1).optional(),
  /** As the method says: `true` for `stream()`, `false` for `generate()`. */
  stream: z.boolean().optional(),
  /** `include_usage`: `toSSE()` ends with the token counts. */
  streamOptions: z.strictObject({ include_usage: z.boolean().optional() }).optional(),
  /** OpenAI's name of the end user. Without effect. */
  user: z.string().optional(),
  /** OpenAI's notes of the caller. Without effect. */
  metadata: z.record(z.string(), z.string()).optional(),
})

/** A checked request, aliases brought to their one name. */
export type CanonicalRequest = z.output<typeof requestSchema>

/** Other spellings of the options: OpenAI, transformers, vLLM, AI SDK. */
const aliases = {
  max_tokens: 'maxTokens',
  max_completion_tokens: 'maxTokens',
  max_output_tokens: 'maxTokens',
  maxOutputTokens: 'maxTokens',
  max_new_tokens: 'maxTokens',
  maxNewTokens: 'maxTokens',
  top_p: 'topP',
  top_k: 'topK',
  min_p: 'minP',
  do_sample: 'doSample',
  repetition_penalty: 'repetitionPenalty',
  frequency_penalty: 'frequencyPenalty',
  presence_penalty: 'presencePenalty',
  penalty_last_n: 'penaltyLastN',
  no_repeat_ngram_size: 'noRepeatNgramSize',
  logit_bias: 'logitBias',
  stop_sequences: 'stop',
  stopSequences: 'stop',
  stop_strings: 'stop',
  top_logprobs: 'topLogprobs',
  stream_options: 'streamOptions',
  response_format: 'responseFormat',
  tool_choice: 'toolChoice',
  parallel_tool_calls: 'parallelToolCalls',
  prompt_lookup_num_tokens: 'promptLookupTokens',
  timeout_ms: 'timeoutMs',
  add_vision_id: 'addVisionId',
  add_generation_prompt: 'addGenerationPrompt',
  chat_template: 'chatTemplate',
  abortSignal: 'signal',
} as const satisfies Record<string, keyof CanonicalRequest>

type Aliases = typeof aliases

/** What the model continues: a conversation, or a prompt without roles. */
export type PromptInput =
  { messages: ChatMessage[]; prompt?: undefined } | { prompt: RawPrompt; messages?: undefined }

/**
 * A request to `generate()` or `stream()`: the conversation and how to answer it. The body of an
 * OpenAI chat completion is one too; null counts as not given.
 */
export type GenerateRequest<Format = ResponseFormat> = PromptInput &
  RequestOptions &
  FormatOption<Format>

/**
 * All options but for the form of the answer.
 *
 * @interface
 */
export type RequestOptions = {
  // In this form the options keep their comments.
  [Name in keyof CanonicalRequest as Exclude<Name, 'messages' | 'prompt' | 'responseFormat'>]?:
    CanonicalRequest[Name] | null
} & {
  [Alias in Exclude<keyof Aliases, 'response_format'>]?: CanonicalRequest[Aliases[Alias]] | null
}

/** Apart, so that the type of `result.object` follows from it. */
export interface FormatOption<Format> {
  /** The form that the answer is to have. */
  responseFormat?: Format | null | undefined
  response_format?: Format | null | undefined
}

const asTools = 'Give the functions as tools: [{ name, description, parameters }].'
const unsupportedOption = 'This version does not support it; leave it out.'

/** Known elsewhere, not here: refused with the way out rather than ignored. */
const unsupported: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    [
      ...['num_beams', 'numBeams', 'store', 'service_tier', 'modalities', 'audio', 'prediction'],
      ...['reasoning_effort', 'verbosity', 'web_search_options'],
    ].map((name) => [name, unsupportedOption]),
  ),
  functions: asTools,
  function_call: 'Give toolChoice: { name }.',
}

/**
 * Checks a request and brings aliases to their one name. Does not look into the messages.
 *
 * @param defaults checked before; they hold where the request says nothing
 */
export function parseRequest(
  request: unknown,
  method?: 'generate' | 'stream',
  defaults: CanonicalRequest = {},
): CanonicalRequest {
  const parsed = parseOptions(requestSchema, withoutNulls(request), {
    what: 'generate() request',
    example: "{ messages: [{ role: 'user', content: 'Hello' }] }",
    aliases,
    unsupported,
  })
  if (method !== undefined && parsed.stream !== undefined) {
    if (parsed.stream !== (method === 'stream')) {
      throw new InvalidArgumentError(
        `generate() request: 'stream' is ${parsed.stream} in a call of ${method}(). ` +
          'Call model.stream() for a stream and model.generate() for the whole answer.',
        { path: 'stream' },
      )
    }
  }
  if (parsed.logprobs === false && (parsed.topLogprobs ?? 0) > 0) {
    throw new InvalidArgumentError(
      `generate() request: topLogprobs: ${parsed.topLogprobs} contradicts logprobs: false. ` +
        'Leave one of them out.',
      { path: 'topLogprobs' },
    )
  }
  checkInput(parsed)
  checkForm({ ...defaults, ...parsed })
  return parsed
}

const templateSchema = requestSchema.pick({
  addVisionId: true,
  addGenerationPrompt: true,
  chatTemplate: true,
  tools: true,
  toolChoice: true,
  parallelToolCalls: true,
})

/** Checks the options of `applyChatTemplate()`, which are some of a request's. */
export function parseTemplateOptions(options: unknown): z.output<typeof templateSchema> {
  const { add_vision_id, add_generation_prompt, chat_template } = aliases
  const { tool_choice, parallel_tool_calls } = aliases
  return parseOptions(templateSchema, options, {
    what: 'applyChatTemplate() options',
    example: '{ addVisionId: true }',
    aliases: {
      ...{ add_vision_id, add_generation_prompt, chat_template },
      ...{ tool_choice, parallel_tool_calls },
    },
  })
}

/** Options of the chat template, which a raw prompt does not go through. */
const templateOptions = [
  ...(['addVisionId', 'addGenerationPrompt', 'chatTemplate'] as const),
  ...(['tools', 'toolChoice', 'parallelToolCalls'] as const),
]

/** Before anything else is done for a request. */
function checkForm(request: CanonicalRequest): void {
  const toolUse = readToolUse(request)
  answerGrammar({ toolUse, format: readResponseFormat(request.responseFormat), continues: false })
  const isForced = toolUse !== undefined && toolUse.choice !== 'auto'
  if (!isForced || request.addGenerationPrompt !== false) return
  throw new InvalidArgumentError(
    'generate() request: toolChoice wants a call at the beginning of an answer, and addGenerationPrompt: false ' +
      'begins none. Leave out one of them.',
    { path: 'toolChoice' },
  )
}

function checkInput(request: CanonicalRequest): void {
  const { messages, prompt } = request
  if (messages === undefined && prompt === undefined) {
    throw new InvalidArgumentError(
      'generate() request: messages is missing. Give a conversation as messages, or a text without ' +
        'roles as prompt.',
      { path: 'messages' },
    )
  }
  if (prompt === undefined) return
  if (messages !== undefined) {
    throw new InvalidArgumentError('generate() request: has both messages and prompt. Give one.', {
      path: 'prompt',
    })
  }
  for (const name of templateOptions) {
    if (request[name] === undefined) continue
    throw new InvalidArgumentError(
      `generate() request: ${name} belongs to the chat template, which a prompt does not go through. ` +
        'Leave it out, or give messages.',
      { path: name },
    )
  }
}

/** OpenAI's clients write null for what is not given. */
function withoutNulls(request: unknown): unknown {
  if (typeof request !== 'object' || request === null || Array.isArray(request)) return request
  return Object.fromEntries(Object.entries(request).filter(([, value]) => value !== null))
}

/** Lets the request's signal and its time limit end it. */
export function followRequest(
  abort: Abort,
  { signal, timeoutMs }: Pick<CanonicalRequest, 'signal' | 'timeoutMs'>,
): void {
  if (signal) abort.follow(signal)
  if (timeoutMs !== undefined) abort.after(timeoutMs)
}

/** The options that took effect, after the checkpoint's defaults and the caller's were merged. */
export interface EffectiveOptions {
  maxTokens: number
  /** 0 = greedy. */
  temperature: number
  topP: number
  topK: number
  minP: number
  repetitionPenalty: number
  frequencyPenalty: number
  presencePenalty: number
  penaltyLastN: number
  noRepeatNgramSize: number
  /** By token id. */
  logitBias: Record<number, number>
  /** Of the first answer. */
  seed: number
  stop: string[]
  n: number
  logprobs: boolean
  topLogprobs: number
}

/** transformers' values where neither the caller nor the file says anything. */
const referenceDefaults = { temperature: 1, topK: 50, topP: 1 }
const defaultMaxTokens = 1024

/**
 * An option of the caller wins over the checkpoint's. A caller's temperature above 0 also switches
 * off the file's `top_k`, `top_p` and `min_p`, which make published checkpoints greedy at any
 * temperature, unless the caller names them too.
 *
 * @param logitBias the caller's, by token id
 */
export function mergeOptions(
  request: Omit<CanonicalRequest, 'messages'>,
  defaults: SamplingDefaults,
  logitBias: Record<number, number> = {},
): EffectiveOptions {
  const topLogprobs = request.topLogprobs ?? 0
  return {
    maxTokens: request.maxTokens ?? defaultMaxTokens,
    ...mergeSampling(request, defaults),
    repetitionPenalty: request.repetitionPenalty ?? defaults.repetitionPenalty ?? 1,
    frequencyPenalty: request.frequencyPenalty ?? 0,
    presencePenalty: request.presencePenalty ?? 0,
    penaltyLastN: request.penaltyLastN ?? -1,
    noRepeatNgramSize: request.noRepeatNgramSize ?? defaults.noRepeatNgramSize ?? 0,
    logitBias,
    seed: request.seed ?? randomInt(2 ** 47),
    stop: typeof request.stop === 'string' ? [request.stop] : (request.stop ?? []),
    n: request.n ?? 1,
    logprobs: request.logprobs ?? topLogprobs > 0,
    topLogprobs,
  }
}

const greedy = { temperature: 0, topK: 0, topP: 1, minP: 0 }

function mergeSampling(
  { temperature, topP, topK, minP, doSample }: Omit<CanonicalRequest, 'messages'>,
  defaults: SamplingDefaults,
): Pick<EffectiveOptions, 'temperature' | 'topP' | 'topK' | 'minP'> {
  if (doSample !== undefined && temperature !== undefined && doSample !== temperature > 0) {
    throw new InvalidArgumentError(
      `generate() request: do_sample: ${doSample} contradicts temperature: ${temperature}. ` +
        `Give the temperature alone; 0 is greedy.`,
      { path: 'doSample' },
    )
  }
  const samples = temperature !== undefined ? temperature > 0 : (doSample ?? defaults.doSample)
  if (!samples) return greedy
  if (temperature !== undefined) {
    return { temperature, topK: topK ?? 0, topP: topP ?? 1, minP: minP ?? 0 }
  }
  return {
    temperature: defaults.temperature ?? referenceDefaults.temperature,
    topK: topK ?? defaults.topK ?? referenceDefaults.topK,
    topP: topP ?? defaults.topP ?? referenceDefaults.topP,
    minP: minP ?? defaults.minP ?? 0,
  }
}
