import { describe, expect, it } from 'vitest'
import { InvalidArgumentError } from '../../../lib/errors.js'
import {
  mergeOptions,
  parseRequest,
  type CanonicalRequest,
  type SamplingDefaults,
} from '../../../lib/generation/options.js'

const messages = [{ role: 'user', content: 'Hello' }]

/** The error that parsing throws, which must be one of the package's. */
function refusal(request: unknown, method?: 'generate' | 'stream'): InvalidArgumentError {
  try {
    parseRequest(request, method)
  } catch (error) {
    if (error instanceof InvalidArgumentError) return error
    throw error
  }
  throw new Error('the request was accepted')
}

describe('parseRequest', () => {
  it.each([
    ['maxTokens', 'max_tokens', 7],
    ['maxTokens', 'max_completion_tokens', 7],
    ['maxTokens', 'max_output_tokens', 7],
    ['maxTokens', 'maxOutputTokens', 7],
    ['maxTokens', 'max_new_tokens', 7],
    ['maxTokens', 'maxNewTokens', 7],
    ['topP', 'top_p', 0.5],
    ['topK', 'top_k', 5],
    ['minP', 'min_p', 0.1],
    ['doSample', 'do_sample', true],
    ['repetitionPenalty', 'repetition_penalty', 1.1],
    ['frequencyPenalty', 'frequency_penalty', 0.5],
    ['presencePenalty', 'presence_penalty', 0.5],
    ['penaltyLastN', 'penalty_last_n', 64],
    ['stop', 'stop_sequences', ['\n']],
    ['stop', 'stopSequences', ['\n']],
    ['stop', 'stop_strings', ['\n']],
    ['noRepeatNgramSize', 'no_repeat_ngram_size', 3],
    ['logitBias', 'logit_bias', { 5: -100 }],
    ['topLogprobs', 'top_logprobs', 4],
    ['streamOptions', 'stream_options', { include_usage: true }],
    ['timeoutMs', 'timeout_ms', 500],
    ['addVisionId', 'add_vision_id', true],
    ['addGenerationPrompt', 'add_generation_prompt', false],
    ['chatTemplate', 'chat_template', '{{ messages }}'],
    ['signal', 'abortSignal', new AbortController().signal],
  ])('%s may be written %s', (name, alias, value) => {
    expect(parseRequest({ messages, [alias]: value })).toEqual({ messages, [name]: value })
  })

  it('takes undefined for not given', () => {
    expect(parseRequest({ messages, temperature: undefined, max_tokens: undefined })).toEqual({
      messages,
    })
  })

  it.each([
    ['max_token', 'max_tokens'],
    ['temprature', 'temperature'],
    ['topp', 'topP'],
    ['max_length', undefined],
    ['repetition_penality', 'repetition_penalty'],
  ])('refuses the unknown option %s and suggests %s', (name, suggestion) => {
    const error = refusal({ messages, [name]: 1 })
    expect(error).toMatchObject({ code: 'ERR_INVALID_ARGUMENT', path: name, suggestion })
    expect(error.message).toContain(suggestion ?? 'maxTokens')
  })

  it.each([
    ['service_tier', 'auto'],
    ['prediction', {}],
    ['num_beams', 4],
    ['store', true],
  ])('refuses %s, which it knows but cannot do, and says the way out', (name, value) => {
    const error = refusal({ messages, [name]: value })
    expect(error).toMatchObject({ path: name })
    expect(error.message).toMatch(/leave it out/)
  })

  it('takes null for not given, as OpenAI clients write it', () => {
    const body = { messages, stop: null, n: null, logit_bias: null, tools: null, seed: null }
    expect(parseRequest(body)).toEqual({ messages })
  })

  it.each([
    ['generate', true],
    ['stream', false],
  ] as const)('refuses stream in %s() when it is %s', (method, stream) => {
    const error = refusal({ messages, stream }, method)
    expect(error).toMatchObject({ path: 'stream' })
    expect(error.message).toMatch(/model\.stream\(\).*model\.generate\(\)/)
    const other = method === 'generate' ? 'stream' : 'generate'
    expect(parseRequest({ messages, stream }, other)).toMatchObject({ stream })
  })

  it('refuses topLogprobs beside logprobs: false', () => {
    expect(refusal({ messages, logprobs: false, top_logprobs: 3 }).path).toBe('topLogprobs')
    expect(parseRequest({ messages, logprobs: false, top_logprobs: 0 }).logprobs).toBe(false)
  })

  it('refuses an option that is given twice with different values', () => {
    expect(refusal({ messages, maxTokens: 5, max_tokens: 6 })).toMatchObject({ path: 'max_tokens' })
    expect(parseRequest({ messages, maxTokens: 5, max_tokens: 5 })).toMatchObject({ maxTokens: 5 })
  })

  it.each([
    [{ temperature: -1 }, 'temperature', 'must be at least 0, not -1'],
    [{ temperature: '0.7' }, 'temperature', "must be a number, not '0.7'"],
    [{ temperature: NaN }, 'temperature', 'must be a number, not NaN'],
    [{ topP: 1.5 }, 'topP', 'must be at most 1, not 1.5'],
    [{ topK: 2.5 }, 'topK', 'must be a whole number, not 2.5'],
    [{ maxTokens: 0 }, 'maxTokens', 'must be at least 1, not 0'],
    [{ seed: -1 }, 'seed', 'must be at least 0, not -1'],
    [{ seed: 2 ** 60 }, 'seed', 'must be'],
    [{ signal: {} }, 'signal', 'AbortSignal'],
    [{ stop: [''] }, 'stop', 'stop'],
    [{ stop: ['a', '\ud83d'] }, 'stop', 'stop'],
    [{ n: 0 }, 'n', 'must be at least 1, not 0'],
    [{ n: 1.5 }, 'n', 'must be a whole number, not 1.5'],
    [{ topLogprobs: 21 }, 'topLogprobs', 'must be at most 20, not 21'],
    [{ logprobs: 5 }, 'logprobs', 'must be a boolean, not 5'],
    [{ logitBias: { 5: '1' } }, 'logitBias.5', "must be a number, not '1'"],
    [{ logitBias: { 5: Infinity } }, 'logitBias.5', 'must be'],
    [{ logitBias: [1] }, 'logitBias', 'must be a record, not an array'],
    [{ noRepeatNgramSize: -1 }, 'noRepeatNgramSize', 'must be at least 0, not -1'],
    [{ priority: 1001 }, 'priority', 'must be at most 1000, not 1001'],
    [{ priority: -1001 }, 'priority', 'must be at least -1000, not -1001'],
    [{ priority: 0.5 }, 'priority', 'must be'],
    [{ promptLookupTokens: -1 }, 'promptLookupTokens', 'must be at least 0, not -1'],
    [{ promptLookupTokens: 65 }, 'promptLookupTokens', 'must be at most 64, not 65'],
    [{ timeoutMs: 0 }, 'timeoutMs', 'must be at least 1, not 0'],
    [{ timeoutMs: 2 ** 31 }, 'timeoutMs', 'must be at most'],
    [{ onAbort: 'stop' }, 'onAbort', "must be one of 'throw', 'return', not 'stop'"],
    [{ streamOptions: { usage: true } }, 'streamOptions.usage', 'no option'],
    [{ addVisionId: 1 }, 'addVisionId', 'must be a boolean, not 1'],
  ])('refuses %j and says what it expected', (options, path, text) => {
    const error = refusal({ messages, ...options })
    expect(error.path).toContain(path)
    expect(error.message).toContain(text)
  })

  it.each([[undefined], [null], ['Hello'], [[]], [{}]])('refuses the request %j', (request) => {
    expect(refusal(request)).toMatchObject({ code: 'ERR_INVALID_ARGUMENT' })
  })
})

describe('mergeOptions', () => {
  // As published with Qwen2-VL Instruct.
  const published: SamplingDefaults = {
    doSample: true,
    temperature: 0.01,
    topP: 0.001,
    topK: 1,
    repetitionPenalty: 1,
  }
  const greedy = { temperature: 0, topK: 0, topP: 1, minP: 0 }
  type Options = Omit<CanonicalRequest, 'messages'>

  it.each<[string, Options, SamplingDefaults, object]>([
    [
      'the file rules where the caller says nothing',
      {},
      published,
      { temperature: 0.01, topP: 0.001, topK: 1, minP: 0 },
    ],
    ['no file: greedy', {}, {}, greedy],
    ['temperature 0 is greedy', { temperature: 0 }, published, greedy],
    ['do_sample: false is greedy', { doSample: false }, published, greedy],
    [
      "a temperature drops the file's top_k and top_p",
      { temperature: 0.7 },
      published,
      { temperature: 0.7, topK: 0, topP: 1 },
    ],
    [
      '... unless the caller names them',
      { temperature: 0.7, topK: 20 },
      published,
      { temperature: 0.7, topK: 20, topP: 1 },
    ],
    [
      '... either of them',
      { temperature: 0.7, topP: 0.9 },
      published,
      { temperature: 0.7, topK: 0, topP: 0.9 },
    ],
    [
      'a temperature alone switches sampling on',
      { temperature: 0.7 },
      {},
      { temperature: 0.7, topK: 0, topP: 1 },
    ],
    [
      "top_p alone keeps the file's others",
      { topP: 0.5 },
      published,
      { temperature: 0.01, topK: 1, topP: 0.5 },
    ],
    [
      "do_sample: true uses transformers' defaults",
      { doSample: true },
      {},
      { temperature: 1, topK: 50, topP: 1 },
    ],
    [
      "the file's repetition penalty holds, greedy or not",
      { temperature: 0 },
      { repetitionPenalty: 1.05 },
      { repetitionPenalty: 1.05 },
    ],
    [
      "the caller's repetition penalty wins",
      { repetitionPenalty: 1.2 },
      { repetitionPenalty: 1.05 },
      { repetitionPenalty: 1.2 },
    ],
    [
      'penalties are off by default',
      {},
      published,
      { frequencyPenalty: 0, presencePenalty: 0, penaltyLastN: -1 },
    ],
    [
      "the file's min_p holds and falls as its top_p does",
      {},
      { doSample: true, minP: 0.1 },
      { temperature: 1, topK: 50, topP: 1, minP: 0.1 },
    ],
    [
      '... where the caller names a temperature',
      { temperature: 0.7 },
      { doSample: true, minP: 0.1 },
      { temperature: 0.7, topK: 0, topP: 1, minP: 0 },
    ],
    [
      "min_p alone keeps the file's others",
      { minP: 0.2 },
      published,
      { temperature: 0.01, topK: 1, topP: 0.001, minP: 0.2 },
    ],
    [
      "the file's no_repeat_ngram_size holds, greedy or not",
      { temperature: 0 },
      { noRepeatNgramSize: 3 },
      { temperature: 0, noRepeatNgramSize: 3 },
    ],
    [
      "the caller's no_repeat_ngram_size wins, also 0",
      { noRepeatNgramSize: 0 },
      { noRepeatNgramSize: 3 },
      { noRepeatNgramSize: 0 },
    ],
    [
      'a file that says do_sample: false is greedy, whatever else it says',
      {},
      { ...published, doSample: false },
      greedy,
    ],
    [
      '... and top_p alone does not switch sampling on',
      { topP: 0.5 },
      { ...published, doSample: false },
      greedy,
    ],
    [
      "do_sample: true samples with the file's values",
      { doSample: true },
      { ...published, doSample: false },
      { temperature: 0.01, topK: 1, topP: 0.001 },
    ],
    [
      'one answer without log probabilities, n-grams free, by default',
      {},
      published,
      { n: 1, logprobs: false, topLogprobs: 0, noRepeatNgramSize: 0, logitBias: {} },
    ],
    ['topLogprobs switches logprobs on', { topLogprobs: 2 }, {}, { logprobs: true }],
    [
      'logprobs may come without others',
      { logprobs: true },
      {},
      { logprobs: true, topLogprobs: 0 },
    ],
    ['1024 tokens by default', {}, published, { maxTokens: 1024, stop: [] }],
    ['one stop string is a list of one', { stop: '\n' }, published, { stop: ['\n'] }],
  ])('%s', (_, options, defaults, expected) => {
    expect(mergeOptions(options, defaults)).toMatchObject(expected)
  })

  it('draws a new seed for each request and keeps a given one', () => {
    const seeds = new Set(Array.from({ length: 8 }, () => mergeOptions({}, {}).seed))
    expect(seeds.size).toBe(8)
    expect([...seeds].every(Number.isSafeInteger)).toBe(true)
    expect(mergeOptions({ seed: 42 }, {}).seed).toBe(42)
  })

  it.each([
    { doSample: false, temperature: 0.7 },
    { doSample: true, temperature: 0 },
  ])('refuses the contradiction %j', (options) => {
    expect(() => mergeOptions(options, published)).toThrow(InvalidArgumentError)
  })
})

describe('a raw prompt', () => {
  it('takes the place of messages', () => {
    const prompt = [{ type: 'image', image: 'a.png' }, 'A photo of']
    expect(parseRequest({ prompt, max_tokens: 5 })).toEqual({ prompt, maxTokens: 5 })
  })

  it.each<[string, Record<string, unknown>, string, RegExp]>([
    ['neither', {}, 'messages', /messages is missing.*or a text without roles as prompt/],
    ['both', { messages, prompt: 'a' }, 'prompt', /both messages and prompt/],
    [
      'addVisionId',
      { prompt: 'a', add_vision_id: true },
      'addVisionId',
      /belongs to the chat template/,
    ],
    [
      'addGenerationPrompt',
      { prompt: 'a', addGenerationPrompt: true },
      'addGenerationPrompt',
      /belongs/,
    ],
    ['chatTemplate', { prompt: 'a', chatTemplate: 'x' }, 'chatTemplate', /Leave it out/],
  ])('is refused with %s', (_, request, path, message) => {
    const error = refusal(request)
    expect(error).toMatchObject({ path })
    expect(error.message).toMatch(message)
  })
})
