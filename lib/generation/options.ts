/** The options of a request: one schema gives types, messages and names; and how they are merged. */
import { randomInt } from 'node:crypto'
import { z } from 'zod'
import type { ChatMessage, RawPrompt } from '../chat/messages.js'
import type { GenerationDefaults } from '../checkpoint/checkpoint.js'
import { InvalidArgumentError } from '../errors.js'
import { parseOptions } from './parse-options.js'

/** What of a `generation_config.json` bears on sampling. */
export type SamplingDefaults = Partial<
  Pick<GenerationDefaults, 'doSample' | 'temperature' | 'topP' | 'topK' | 'repetitionPenalty'>
>

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
  /** Makes sampling reproducible. Default: random, and returned in the result. */
  seed: z.int().min(0).optional(),
  /** The answer ends before the first of these strings; none of it is returned. */
  stop: z.union([z.string().min(1), z.array(z.string().min(1))]).optional(),
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
  /** Aborts the request: it rejects with `signal.reason` and stops computing within one step. */
  signal: z.instanceof(AbortSignal).optional(),
})

type CanonicalRequest = z.output<typeof requestSchema>

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
  stop_sequences: 'stop',
  stopSequences: 'stop',
  stop_strings: 'stop',
  add_vision_id: 'addVisionId',
  add_generation_prompt: 'addGenerationPrompt',
  chat_template: 'chatTemplate',
  abortSignal: 'signal',
} as const satisfies Record<string, keyof CanonicalRequest>

type Aliases = typeof aliases

/** What the model continues: a conversation, or a prompt without roles. */
export type PromptInput =
  { messages: ChatMessage[]; prompt?: undefined } | { prompt: RawPrompt; messages?: undefined }

/** A request to `generate()` or `stream()`: the conversation and how to answer it. */
export type GenerateRequest = Omit<CanonicalRequest, 'messages' | 'prompt'> &
  PromptInput & {
    [Alias in keyof Aliases]?: CanonicalRequest[Aliases[Alias]]
  }

const unsupportedOption = 'This version does not support it; leave it out.'

/** Known elsewhere, not here: refused with the way out rather than ignored. */
const unsupported: Readonly<Record<string, string>> = {
  model: 'The model is the one that loadModel() loaded; leave it out.',
  stream: 'Call model.stream() for a stream and model.generate() for the whole answer.',
  timeoutMs: 'Use signal: AbortSignal.timeout(milliseconds).',
  ...Object.fromEntries(
    [
      ...['tools', 'toolChoice', 'tool_choice', 'parallel_tool_calls', 'functions'],
      ...['responseFormat', 'response_format', 'n', 'logprobs', 'topLogprobs', 'top_logprobs'],
      ...['logitBias', 'logit_bias', 'noRepeatNgramSize', 'no_repeat_ngram_size'],
      ...['onAbort', 'priority', 'num_beams', 'numBeams'],
    ].map((name) => [name, unsupportedOption]),
  ),
}

/** Checks a request and brings aliases to their one name. Does not look into the messages. */
export function parseRequest(request: unknown): CanonicalRequest {
  const parsed = parseOptions(requestSchema, request, {
    what: 'generate() request',
    example: "{ messages: [{ role: 'user', content: 'Hello' }] }",
    aliases,
    unsupported,
  })
  checkInput(parsed)
  return parsed
}

const templateSchema = requestSchema.pick({
  addVisionId: true,
  addGenerationPrompt: true,
  chatTemplate: true,
})

/** Checks the options of `applyChatTemplate()`, which are some of a request's. */
export function parseTemplateOptions(options: unknown): z.output<typeof templateSchema> {
  const { add_vision_id, add_generation_prompt, chat_template } = aliases
  return parseOptions(templateSchema, options, {
    what: 'applyChatTemplate() options',
    example: '{ addVisionId: true }',
    aliases: { add_vision_id, add_generation_prompt, chat_template },
  })
}

/** Options of the chat template, which a raw prompt does not go through. */
const templateOptions = ['addVisionId', 'addGenerationPrompt', 'chatTemplate'] as const

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
  seed: number
  stop: string[]
}

/** transformers' values where neither the caller nor the file says anything. */
const referenceDefaults = { temperature: 1, topK: 50, topP: 1 }
const defaultMaxTokens = 1024

/**
 * An option of the caller wins over the checkpoint's. A caller's temperature above 0 also switches
 * off the file's `top_k` and `top_p`, which make published checkpoints greedy at any temperature,
 * unless the caller names them too.
 */
export function mergeOptions(
  request: Omit<CanonicalRequest, 'messages'>,
  defaults: SamplingDefaults,
): EffectiveOptions {
  return {
    maxTokens: request.maxTokens ?? defaultMaxTokens,
    ...mergeSampling(request, defaults),
    repetitionPenalty: request.repetitionPenalty ?? defaults.repetitionPenalty ?? 1,
    frequencyPenalty: request.frequencyPenalty ?? 0,
    presencePenalty: request.presencePenalty ?? 0,
    penaltyLastN: request.penaltyLastN ?? -1,
    seed: request.seed ?? randomInt(2 ** 47),
    stop: typeof request.stop === 'string' ? [request.stop] : (request.stop ?? []),
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
    minP: minP ?? 0,
  }
}
