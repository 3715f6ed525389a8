/** Answers in a given form, from the bundled checkpoint: it has seen no JSON, and writes it all the same. */
import { afterAll, beforeAll, describe, expect, expectTypeOf, it } from 'vitest'
import { z } from 'zod'
import {
  loadModel,
  SchemaError,
  type ChatCompletionChunk,
  type GenerateRequest,
  type GenerateResult,
  type Model,
  type ResponseFormat,
} from '../../../lib/index.js'

let model: Model
beforeAll(async () => void (model = await loadModel('tiny')))
afterAll(() => model.dispose())

const messages = [{ role: 'user', content: 'Who are you?' }]
const short = { messages, maxTokens: 80, temperature: 0 }

const person = z.object({
  name: z.enum(['Ada', 'Grace']),
  age: z.int().min(18).max(99),
  tags: z.array(z.string().max(4)).max(2),
  note: z.null().optional(),
})

describe('responseFormat', () => {
  it('makes an answer JSON that fits a Zod object, with its type', async () => {
    const result = await model.generate({ ...short, responseFormat: person })
    expectTypeOf(result.object).toEqualTypeOf<z.output<typeof person> | undefined>()
    expect(result.finishReason).toBe('stop')
    expect(result.object).toEqual(person.parse(JSON.parse(result.text)))
    expect(result.objectError).toBeUndefined()
  })

  it('does so for any draw', async () => {
    const seeds = Array.from({ length: 12 }, (_, seed) => seed)
    const request = { ...short, responseFormat: person, temperature: 2 }
    const results = await Promise.all(seeds.map((seed) => model.generate({ ...request, seed })))
    for (const { text, object } of results)
      expect(object, text).toEqual(person.parse(JSON.parse(text)))
    expect(new Set(results.map(({ text }) => text)).size).toBeGreaterThan(3)
  })

  it.each<[string, ResponseFormat, RegExp]>([
    ['choice', { type: 'choice', choices: ['red', 'green'] }, /^(?:red|green)$/],
    ['regex', { type: 'regex', pattern: '\\d{4}-\\d\\d' }, /^\d{4}-\d\d$/],
    [
      'grammar',
      { type: 'grammar', grammar: 'root ::= "It is " ("a " [a-z]{2,5}) "."' },
      /^It is a [a-z]{2,5}\.$/,
    ],
    [
      'json_schema',
      {
        type: 'json_schema',
        schema: { type: 'array', items: { type: 'boolean' }, minItems: 2, maxItems: 2 },
      },
      /^\[(?:true|false), ?(?:true|false)\]$/,
    ],
  ])('may be a %s', async (_, responseFormat, pattern) => {
    const { text, finishReason } = await model.generate({ ...short, responseFormat })
    expect(text).toMatch(pattern)
    expect(finishReason).toBe('stop')
  })

  it('is plain text where it says so', async () => {
    const [text, none] = await Promise.all([
      model.generate({ ...short, responseFormat: { type: 'text' } }),
      model.generate(short),
    ])
    expect(text.text).toBe(none.text)
    expect(text).not.toHaveProperty('object')
  })

  it('gives each of n answers its object', async () => {
    const responseFormat = { type: 'choice', choices: ['one', 'two', 'three'] } as const
    const { choices, object } = await model.generate({
      ...short,
      responseFormat,
      n: 4,
      temperature: 3,
      seed: 1,
    })
    for (const choice of choices) expect(choice.object).toBe(choice.text)
    expect(choices).toHaveLength(4)
    expect(object).toBe(choices[0]!.object)
  })

  it('says why there is no object', async () => {
    const long = { type: 'json_schema', schema: { type: 'string', minLength: 500 } } as const
    const cut = await model.generate({ ...short, responseFormat: long, maxTokens: 5 })
    expect(cut).toMatchObject({
      finishReason: 'length',
      objectError: 'The answer was not complete after 5 tokens. Raise maxTokens, or ask for less.',
    })
    expect(cut).not.toHaveProperty('object')
    const number = await model.generate({
      ...short,
      responseFormat: { type: 'json_schema', schema: { type: 'integer', minimum: 1e6 } },
      maxTokens: 2,
    })
    expect(number.object).toBeUndefined()
    const stopped = await model.generate({
      ...short,
      responseFormat: long,
      stop: ['a', 'e', 'i', 'o'],
    })
    expect(stopped.objectError).toMatch(/met a stop string before it was complete/)
    const picky = z.object({ a: z.literal(1) }).refine(() => false, 'never good enough')
    const refused = await model.generate({ ...short, responseFormat: picky })
    expect(refused.objectError).toBe('The answer does not fit the schema: never good enough.')
    const aborted = await model.generate({
      ...short,
      responseFormat: long,
      maxTokens: 1500,
      timeoutMs: 30,
      onAbort: 'return',
    })
    expect([aborted.objectError, aborted.finishReason]).toEqual([
      'The answer was aborted before it was complete.',
      'abort',
    ])
  })

  it('holds in streams, chats and batches', async () => {
    const stream = model.stream({ ...short, responseFormat: person })
    let text = ''
    for await (const piece of stream.textStream) text += piece
    expect((await stream.result).object).toEqual(JSON.parse(text))
    const chat = model.createChat({ responseFormat: person, maxTokens: 80 })
    const { object } = await chat.send('Who is it?', { temperature: 0 })
    expect(person.safeParse(object).success).toBe(true)
    const stored = JSON.parse(JSON.stringify(chat)) as ReturnType<typeof chat.toJSON>
    const again = await model.createChat(stored).send('And now?', { temperature: 0 })
    expect(person.safeParse(again.object).success).toBe(true)
    const [one] = await model.generateBatch([{ ...short, responseFormat: person }])
    expect(one).toMatchObject({ finishReason: 'stop' })
  })

  it('is refused before anything is computed', async () => {
    const responseFormat = { type: 'json_schema', schema: { not: {} } } as const
    await expect(model.generate({ ...short, responseFormat })).rejects.toThrow(SchemaError)
    await expect(model.countTokens({ ...short, responseFormat })).rejects.toMatchObject({
      code: 'ERR_SCHEMA',
      schemaPath: '#/not',
    })
    expect(() => model.createChat({ responseFormat })).toThrow(SchemaError)
    const sent = await new Response(model.stream({ ...short, responseFormat }).toSSE()).text()
    const { error } = JSON.parse(sent.slice('data: '.length)) as { error: object }
    expect(error).toMatchObject({ type: 'invalid_request_error', code: 'ERR_SCHEMA' })
  })

  it('has the type of what is asked for', () => {
    type ObjectOfCall<F extends ResponseFormat> = Awaited<
      ReturnType<typeof model.generate<F>>
    >['object']
    expectTypeOf<ObjectOfCall<{ type: 'choice'; choices: readonly ['a', 'b'] }>>().toEqualTypeOf<
      'a' | 'b' | undefined
    >()
    expectTypeOf<ObjectOfCall<{ type: 'json_object' }>>().toEqualTypeOf<
      Record<string, unknown> | undefined
    >()
    expectTypeOf<ObjectOfCall<{ type: 'json_schema'; schema: typeof person }>>().toEqualTypeOf<
      z.output<typeof person> | undefined
    >()
    expectTypeOf<ObjectOfCall<{ type: 'json_schema'; schema: { type: 'string' } }>>().toBeUnknown()
    const calls = {
      plain: (request: GenerateRequest) => model.generate(request),
      colour: () =>
        model.generate({ messages, responseFormat: { type: 'choice', choices: ['red', 'blue'] } }),
    }
    expectTypeOf(calls.plain).returns.resolves.toExtend<GenerateResult>()
    type Colour = Awaited<ReturnType<typeof calls.colour>>['object']
    expectTypeOf<Colour>().toEqualTypeOf<'red' | 'blue' | undefined>()
    // @ts-expect-error: a misspelt option is seen beside a form as well
    const misspelt = () => model.generate({ messages, responseFormat: person, max_token: 1 })
    expect(misspelt).toBeTypeOf('function')
  })
})

describe('tools', () => {
  const weather = {
    name: 'weather',
    description: 'Tells the weather.',
    parameters: z.object({
      city: z.enum(['Oslo', 'Rome']),
      days: z.int().min(1).max(9).default(1),
    }),
  }
  const time = {
    name: 'time',
    parameters: { type: 'object', properties: { zone: { const: 'UTC' } } },
  }
  const tools = [weather, time]
  const argumentsOf = {
    weather: weather.parameters,
    time: z.strictObject({ zone: z.literal('UTC').optional() }),
  }

  it('are called where a call is required, with arguments that fit', async () => {
    const seeds = Array.from({ length: 8 }, (_, seed) => seed)
    const request = { ...short, tools, toolChoice: 'required', temperature: 2 } as const
    const results = await Promise.all(seeds.map((seed) => model.generate({ ...request, seed })))
    for (const { toolCalls, finishReason, text } of results) {
      expect({ finishReason, text }).toEqual({ finishReason: 'tool-calls', text: '' })
      expect(toolCalls).toHaveLength(1)
      const { name, arguments: given, argumentsText, error } = toolCalls[0]!
      expect(error).toBeUndefined()
      expect(given).toEqual(
        argumentsOf[name as keyof typeof argumentsOf].parse(JSON.parse(argumentsText)),
      )
    }
    expect(new Set(results.map(({ toolCalls }) => toolCalls[0]!.name)).size).toBe(2)
  })

  it('are called by name, in a call that the prompt begins', async () => {
    const request = { ...short, tools, toolChoice: { name: 'time' } }
    const prompt = model.applyChatTemplate(messages, { tools, toolChoice: { name: 'time' } })
    expect(prompt).toMatch(/<\|im_start\|>assistant\n✿FUNCTION✿: time$/)
    const { toolCalls, tokenIds } = await model.generate(request)
    expect(toolCalls).toMatchObject([{ name: 'time' }])
    expect(model.tokenizer.decode(tokenIds)).toMatch(/^\n✿ARGS✿: \{/)
  })

  it('may be called several times where that is asked for', async () => {
    // The end is made unlikely, so that calls go on until the limit cuts one off.
    const request = { ...short, tools, toolChoice: 'required', parallelToolCalls: true } as const
    const logitBias = { '<|im_end|>': -100, '<|endoftext|>': -100 }
    const { toolCalls, finishReason } = await model.generate({
      ...request,
      logitBias,
      maxTokens: 300,
      stop: [],
    })
    expect(toolCalls.length).toBeGreaterThan(0)
    expect(['tool-calls', 'length']).toContain(finishReason)
    expect(new Set(toolCalls.map(({ id }) => id)).size).toBe(toolCalls.length)
  })

  it('are left alone where the model would rather speak', async () => {
    const { toolCalls, finishReason, text } = await model.generate({ ...short, tools })
    expect(toolCalls).toEqual([])
    expect(finishReason).toBe('stop')
    expect(text).not.toBe('')
  })

  it('are called or a form is kept to, where both are given', async () => {
    const request = {
      ...short,
      tools,
      responseFormat: { type: 'choice', choices: ['yes', 'no'] },
    } as const
    for (const seed of [0, 1, 2, 3]) {
      const { toolCalls, text, object } = await model.generate({ ...request, temperature: 2, seed })
      expect(toolCalls.length === 1 ? [text, object] : [toolCalls, object]).toEqual(
        toolCalls.length === 1 ? ['', undefined] : [[], text],
      )
    }
  })

  it('come as events of a stream, and as deltas of OpenAI', async () => {
    const request = {
      ...short,
      tools,
      tool_choice: { type: 'function', function: { name: 'weather' } },
    } as const
    const stream = model.stream(request)
    const events = []
    for await (const event of stream) events.push(event)
    const { toolCalls, finishReason } = await stream.result
    expect(events.map(({ type }) => type)).toEqual(['start', 'tool-call', 'finish'])
    expect(events[1]).toEqual({ type: 'tool-call', ...toolCalls[0] })
    expect(events[2]).toMatchObject({ finishReason })
    const again = model.stream(request)
    const body = await new Response(again.toSSE()).text()
    const chunks = body
      .split('\n\n')
      .filter((line) => line.startsWith('data: {'))
      .map((line) => JSON.parse(line.slice('data: '.length)) as ChatCompletionChunk)
    const { id, argumentsText } = (await again.result).toolCalls[0]!
    expect(chunks.map(({ choices }) => choices[0])).toMatchObject([
      {
        delta: {
          role: 'assistant',
          tool_calls: [
            {
              index: 0,
              id,
              type: 'function',
              function: { name: 'weather', arguments: argumentsText },
            },
          ],
        },
        finish_reason: null,
      },
      { delta: {}, finish_reason: 'tool_calls' },
    ])
  })

  it("are in OpenAI's answer, whose message goes into the history as it is", async () => {
    const request = { ...short, tools, toolChoice: 'required' } as const
    const { choices } = (await model.generate(request)).toOpenAI()
    const [{ message, finish_reason }] = choices as [(typeof choices)[number]]
    expect(finish_reason).toBe('tool_calls')
    expect(message).toMatchObject({
      role: 'assistant',
      content: null,
      tool_calls: [{ type: 'function' }],
    })
    const result = { role: 'tool', tool_call_id: message.tool_calls![0]!.id, content: '12 °C' }
    const history = [...messages, message, result]
    const answer = await model.generate({ ...request, messages: history })
    expect(answer.finishReason).toBe('tool-calls')
    const named = model.applyChatTemplate(history, { tools, toolChoice: { name: 'time' } })
    expect(named).toMatch(/\n✿RESULT✿: 12 °C\n✿RETURN✿: \n✿FUNCTION✿: time$/)
    expect(
      (await model.generate({ ...request, messages: history, toolChoice: { name: 'time' } }))
        .toolCalls,
    ).toMatchObject([{ name: 'time' }])
    const formed = await model.generate({
      ...short,
      messages: history,
      responseFormat: { type: 'choice', choices: ['warm', 'cold'] },
    })
    expect(['warm', 'cold']).toContain(formed.object)
  })

  it('go on in a chat', async () => {
    const chat = model.createChat({ tools, temperature: 0, maxTokens: 60 })
    const { toolCalls } = await chat.send('How is it in Oslo?', { toolChoice: { name: 'weather' } })
    const results = toolCalls.map(({ id }) => ({
      role: 'tool' as const,
      tool_call_id: id,
      content: 'Rain',
    }))
    const { usage } = await chat.send(results, { toolChoice: 'none' })
    expect(usage.promptTokens).toBeGreaterThan(0)
    expect(chat.messages.map(({ role }) => role)).toEqual([
      'user',
      'assistant',
      'tool',
      'assistant',
    ])
  })

  it('write code between fences, where one is the code interpreter', async () => {
    const request = {
      ...short,
      tools: [{ name: 'code_interpreter' }],
      toolChoice: 'required',
      maxTokens: 400,
    } as const
    for (const seed of [1, 2]) {
      const { toolCalls, tokenIds, finishReason } = await model.generate({
        ...request,
        seed,
        temperature: 1,
      })
      const all = model.tokenizer.decode(tokenIds)
      expect(all).toMatch(/^✿FUNCTION✿: code_interpreter\n✿ARGS✿: \n?```(?:py(?:thon)?)?\n/)
      if (finishReason === 'tool-calls')
        expect(all).toContain(`${toolCalls[0]!.arguments as string}\n\`\`\``)
    }
  })

  it('count in the prompt', async () => {
    const [with_, without, none] = await Promise.all([
      model.countTokens({ messages, tools }),
      model.countTokens({ messages }),
      model.countTokens({ messages, tools, toolChoice: 'none' }),
    ])
    expect(with_.promptTokens).toBeGreaterThan(without.promptTokens + 50)
    expect(none.promptTokens).toBe(without.promptTokens)
  })

  it('are refused where they cannot be followed', async () => {
    const bad = { name: 'f', parameters: { type: 'object', properties: { a: { not: {} } } } }
    await expect(model.generate({ ...short, tools: [bad] })).rejects.toMatchObject({
      code: 'ERR_SCHEMA',
      schemaPath: '#/properties/a/not',
      message: expect.stringMatching(
        /^The parameters of the tool 'f': The schema at #\/properties\/a\/not cannot/,
      ) as string,
    })
    await expect(model.generate({ prompt: 'Hello', tools })).rejects.toMatchObject({
      path: 'tools',
    })
    const noTurn = { ...short, tools, toolChoice: 'required', addGenerationPrompt: false } as const
    await expect(model.generate(noTurn)).rejects.toThrow(
      /addGenerationPrompt: false begins none\. Leave out one/,
    )
  })
})
