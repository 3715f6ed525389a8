/** Conversations: what a chat keeps, takes back and hands on, and that its history is computed once. */
import { readFile } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import {
  InvalidArgumentError,
  loadModel,
  type ChatOptions,
  type ContentPart,
  type GenerateRequest,
  type GenerateResult,
  type Model,
  type ToolMessage,
  type TurnOptions,
} from '../../lib/index.js'
import { createChat, type Turn } from '../../lib/chat-session.js'
import { sampleOf, tinyFolder } from './generation/tiny-samples.js'

let model: Model
beforeAll(async () => void (model = await loadModel('tiny')))
afterAll(() => model.dispose())
beforeEach(() => model.clearCache())

const picture = (name: string) => `${tinyFolder}/images/${name}`
const withPicture = (name: string, text: string): ContentPart[] => [
  { type: 'image', image: picture(name) },
  { type: 'text', text },
]
const greedy = { temperature: 0, maxTokens: 40 } satisfies ChatOptions

/** What of a result must not depend on what was kept. */
const answerOf = ({ text, tokenIds, usage: { promptTokens, imageTokens } }: GenerateResult) => ({
  text,
  tokenIds,
  promptTokens,
  imageTokens,
})

describe('a chat', () => {
  it('asks as the recorded conversation does, and gives its answers', async () => {
    const { messages } = sampleOf('multi-turn-turn3')
    const chat = model.createChat(greedy)
    const recorded = [
      sampleOf('multi-turn-turn1'),
      sampleOf('multi-turn-turn2'),
      sampleOf('multi-turn-turn3'),
    ]
    for (const [turn, sample] of recorded.entries()) {
      const { tokenIds, usage } = await chat.send(messages[2 * turn]!.content!)
      expect(tokenIds).toEqual(sample.reference.token_ids)
      expect(usage.promptTokens).toBe(sample.prompt_token_ids.length)
      if (turn > 0) expect(usage.cachedTokens).toBeGreaterThanOrEqual(32)
    }
    expect(chat.messages.slice(0, 5)).toEqual(messages)
  })

  it('does not compute its history again, and answers as if it did', async () => {
    const chat = model.createChat(greedy)
    await chat.send(withPicture('describe-one.png', 'What do you see?'))
    const { usage, images } = await chat.send('What is in the picture?')
    expect(usage.cachedTokens).toBeGreaterThanOrEqual(32)
    expect(usage.cachedTokens).toBeLessThan(usage.promptTokens)
    expect(images).toMatchObject([{ cached: true }])

    const third = await chat.send(withPicture('describe-two.png', 'What do you see here?'))
    expect(third.images.map(({ cached }) => cached)).toEqual([true, false])
    expect(third.usage.cachedTokens).toBeGreaterThan(usage.cachedTokens)
    const fresh = await model.generate({
      ...greedy,
      cache: false,
      messages: [...chat.messages.slice(0, -1)],
    })
    expect(fresh.usage.cachedTokens).toBe(0)
    expect(answerOf(third)).toEqual(answerOf(fresh))
  })

  it('begins with a system message and with what has been said', async () => {
    const messages = sampleOf('multi-turn-turn2').messages.slice(0, 2)
    const chat = model.createChat({ system: 'Be brief.', messages, ...greedy })
    expect(chat.messages).toEqual([{ role: 'system', content: 'Be brief.' }, ...messages])
    const { text } = await chat.send('Who are you?')
    expect(chat.messages.slice(3)).toEqual([
      { role: 'user', content: 'Who are you?' },
      { role: 'assistant', content: text },
    ])
  })

  it('streams, and has the answer in its history when the stream has ended', async () => {
    const chat = model.createChat(greedy)
    const stream = chat.stream('Who are you?')
    let text = ''
    for await (const piece of stream.textStream) text += piece
    expect((await stream.result).text).toBe(text)
    expect(chat.messages).toEqual([
      { role: 'user', content: 'Who are you?' },
      { role: 'assistant', content: text },
    ])
  })

  it('takes options for all turns, and others for one, in any spelling', async () => {
    const chat = model.createChat({ max_new_tokens: 2, temperature: 0 })
    expect((await chat.send('Who are you?')).usage.completionTokens).toBe(2)
    expect((await chat.send('Who are you?', { maxTokens: 3 })).usage.completionTokens).toBe(3)
    expect((await chat.send('Who are you?')).options).toMatchObject({
      maxTokens: 2,
      temperature: 0,
    })
  })

  it('keeps a picture that could be read only once', async () => {
    const bytes = await readFile(picture('describe-one.png'))
    const once = () => Readable.from([bytes])
    const chat = model.createChat(greedy)
    const first = await chat.send([
      { type: 'image', image: once() },
      { type: 'text', text: 'What do you see?' },
    ])
    const second = await chat.send('What is in the picture?')
    const other = model.createChat(greedy)
    expect(answerOf(first)).toEqual(
      answerOf(await other.send(withPicture('describe-one.png', 'What do you see?'))),
    )
    expect(answerOf(second)).toEqual(answerOf(await other.send('What is in the picture?')))
  })

  it('is not changed by what its caller does with a list of parts', async () => {
    const chat = model.createChat(greedy)
    const parts = withPicture('describe-one.png', 'What do you see?')
    await chat.send(parts)
    parts.length = 0
    expect(chat.messages[0]?.content).toHaveLength(2)
  })
})

/** The model may not end its answer by itself. */
const endless = {
  temperature: 100,
  logitBias: { '<|im_end|>': -1e9, '<|endoftext|>': -1e9 },
  maxTokens: 1500,
}

describe('a turn that fails', () => {
  it.each([
    ['an image that is none', () => [{ type: 'image' as const, image: Buffer.from('no') }], {}],
    ['a misspelt option', () => 'Hello', { maxToken: 5 }],
    ['another conversation', () => 'Hello', { messages: [] }],
    ['content that is none', () => 5 as never, {}],
    ['a signal that was aborted', () => 'Hello', { signal: AbortSignal.abort(new Error('no')) }],
  ])('for %s leaves the history as it was', async (_, content, options) => {
    const chat = model.createChat(greedy)
    await chat.send('Who are you?')
    const before = chat.messages
    await expect(chat.send(content(), options as TurnOptions)).rejects.toThrow()
    expect(chat.messages).toEqual(before)
    await chat.send('Who are you?')
    expect(chat.messages).toHaveLength(4)
  })

  it('because its reader left leaves the history as it was', async () => {
    const chat = model.createChat(endless)
    for await (const event of chat.stream('Who are you?')) if (event.type === 'text') break
    await expect.poll(() => model.metrics().running).toBe(0)
    expect(chat.messages).toEqual([])
    await chat.send('Who are you?', greedy)
    expect(chat.messages).toHaveLength(2)
  })

  it('of which the part so far is wanted leaves the history as it was', async () => {
    const chat = model.createChat({ ...endless, onAbort: 'return' })
    const controller = new AbortController()
    const stream = chat.stream('Who are you?', { signal: controller.signal })
    for await (const event of stream) if (event.type === 'text') controller.abort()
    const { finishReason, text } = await stream.result
    expect(finishReason).toBe('abort')
    expect(text).not.toBe('')
    expect(chat.messages).toEqual([])
  })

  it('does not leave its pictures to the next one', async () => {
    const chat = model.createChat(greedy)
    const ask = (image: string) => chat.send(withPicture(image, 'What do you see?'))
    const controller = new AbortController()
    const failing = chat.stream(withPicture('describe-two.png', 'What do you see?'), {
      signal: controller.signal,
    })
    for await (const event of failing) if (event.type === 'start') break
    await failing.result.catch(() => {})
    const other = await model.generate({
      ...greedy,
      messages: [{ role: 'user', content: withPicture('describe-one.png', 'What do you see?') }],
    })
    expect(answerOf(await ask('describe-one.png'))).toEqual(answerOf(other))
  })
})

describe('while it answers, a chat', () => {
  it('refuses a second message and a rewind, and can be forked', async () => {
    const chat = model.createChat(greedy)
    await chat.send('Who are you?')
    const running = chat.send('Who are you?')
    await expect(chat.send('And now?')).rejects.toThrow(/answering another message.*fork/)
    await expect(chat.stream('And now?').result).rejects.toThrow(InvalidArgumentError)
    expect(() => chat.rewind()).toThrow(InvalidArgumentError)
    expect(chat.fork().messages).toHaveLength(2)
    await running
    expect(chat.messages).toHaveLength(4)
  })
})

describe('fork()', () => {
  it('gives a chat that goes its own way from here', async () => {
    const chat = model.createChat(greedy)
    await chat.send(withPicture('describe-one.png', 'What do you see?'))
    const fork = chat.fork()
    const [own, forked] = await Promise.all([
      chat.send('What is in the picture?'),
      fork.send('What is in the picture?'),
    ])
    expect(answerOf(forked)).toEqual(answerOf(own))
    await fork.send('Who are you?')
    expect(chat.messages).toHaveLength(4)
    expect(fork.messages).toHaveLength(6)
  })
})

describe('rewind()', () => {
  it('takes turns back, with their pictures', async () => {
    const chat = model.createChat({ system: 'Be brief.', ...greedy })
    await chat.send(withPicture('describe-one.png', 'What do you see?'))
    const first = chat.messages
    await chat.send(withPicture('describe-two.png', 'What do you see here?'))
    await chat.send('Who are you?')
    chat.rewind(0)
    expect(chat.messages).toHaveLength(7)
    chat.rewind(2)
    expect(chat.messages).toEqual(first)
    const again = await chat.send(withPicture('describe-three.jpg', 'What do you see here?'))
    const fresh = await model.generate({
      ...greedy,
      cache: false,
      messages: [...chat.messages.slice(0, -1)],
    })
    expect(answerOf(again)).toEqual(answerOf(fresh))
    chat.rewind(2)
    expect(chat.messages).toEqual([{ role: 'system', content: 'Be brief.' }])
  })

  it.each([3, -1, 0.5, NaN])('refuses %d turns of two', async (turns) => {
    const chat = model.createChat(greedy)
    await chat.send('Who are you?')
    await chat.send('Who are you?')
    expect(() => chat.rewind(turns)).toThrow(/has 2 turns/)
    expect(chat.messages).toHaveLength(4)
  })
})

describe('toJSON()', () => {
  it('gives what createChat() goes on from, bytes and addresses included', async () => {
    const path = picture('describe-one.png')
    const chat = model.createChat({
      ...greedy,
      signal: new AbortController().signal,
      stop: ['never'],
      messages: [
        {
          role: 'user',
          content: [
            { type: 'image', image: await readFile(path), maxPixels: 28 * 28 * 40 },
            { type: 'image', image: new URL(`file://${path}`) },
            { type: 'image_url', image_url: { url: Uint8Array.from(await readFile(path)) } },
            { type: 'text', text: 'What do you see?' },
          ],
        },
        { role: 'assistant', content: 'A picture.' },
      ],
    })
    const text = JSON.stringify(chat)
    expect(JSON.parse(text)).toMatchObject({
      ...greedy,
      stop: ['never'],
      messages: [
        {
          content: [
            { image: expect.stringMatching(/^data:image;base64,/) as string },
            { image: `file://${path}` },
            { image_url: { url: expect.stringMatching(/^data:image;base64,/) as string } },
            { type: 'text' },
          ],
        },
        {},
      ],
    })
    const again = model.createChat(JSON.parse(text) as ChatOptions)
    const question = 'What is in the picture?'
    expect(answerOf(await again.send(question))).toEqual(answerOf(await chat.send(question)))
    expect(again.messages).toHaveLength(4)
  })

  it('says which message holds what JSON cannot carry', async () => {
    const raw = { data: new Uint8Array(28 * 28 * 3), width: 28, height: 28, channels: 3 as const }
    for (const image of [raw, new Blob([new Uint8Array(4)])]) {
      const chat = model.createChat({
        messages: [{ role: 'user', content: [{ type: 'image', image }] }],
      })
      expect(() => chat.toJSON()).toThrow(/messages\[0\]\.content\[0\]\.image .*JSON cannot carry/)
    }
    await Promise.resolve()
  })
})

describe('createChat()', () => {
  it.each<[string, ChatOptions, RegExp]>([
    ['a misspelt option', { maxToken: 5 } as ChatOptions, /no option 'maxToken'/],
    ['a prompt', { prompt: 'Hello' } as ChatOptions, /takes no prompt/],
    ['a system message that is none', { system: 5 as never }, /system must be a text/],
    ['messages that are none', { messages: 'Hello' as never }, /messages must be a list/],
    ['a message without a role', { messages: [{ content: 'Hello' } as never] }, /role/],
    [
      'two system messages',
      { system: 'a', messages: [{ role: 'system', content: 'b' }] },
      /a system message in messages already/,
    ],
  ])('refuses %s', (_, options, message) => {
    expect(() => model.createChat(options)).toThrow(InvalidArgumentError)
    expect(() => model.createChat(options)).toThrow(message)
  })

  it('takes nothing at all', async () => {
    expect(model.createChat().messages).toEqual([])
    expect(model.createChat({ messages: [] }).toJSON()).toEqual({ messages: [] })
    await Promise.resolve()
  })
})

describe('a chat with tools', () => {
  const tools = [{ name: 'weather', parameters: { type: 'object', properties: {} } }]
  const call = { name: 'weather', arguments: {}, argumentsText: '{}' }
  const answer = (text: string, ...ids: string[]) =>
    ({ text, rawText: text, toolCalls: ids.map((id) => ({ id, ...call })) }) as GenerateResult

  /** A chat whose model gives the answers one after the other, and the requests that it sends. */
  function chatWith(...answers: GenerateResult[]) {
    const requests: GenerateRequest[] = []
    const run = ({ request }: Turn) => {
      requests.push(request)
      return Promise.resolve(answers[requests.length - 1]!)
    }
    return { chat: createChat({ name: 'fake', run }, { tools }), requests }
  }
  const result = (id: string) => ({ role: 'tool', tool_call_id: id, content: '12 °C' }) as const
  const calls = (...ids: string[]) =>
    ids.map((id) => ({ id, type: 'function', function: { name: 'weather', arguments: '{}' } }))

  it('keeps calls in its history, and takes their results as the next turn', async () => {
    const { chat, requests } = chatWith(answer('I look.', 'a', 'b'), answer('12 °C.'))
    await chat.send('Is it warm?')
    await chat.send([result('a'), result('b')])
    expect(chat.messages).toEqual([
      { role: 'user', content: 'Is it warm?' },
      { role: 'assistant', content: 'I look.', tool_calls: calls('a', 'b') },
      result('a'),
      result('b'),
      { role: 'assistant', content: '12 °C.' },
    ])
    expect(requests[1]).toMatchObject({ tools, messages: chat.messages.slice(0, 4) })
    chat.rewind()
    expect(chat.messages).toEqual([])
  })

  it('can be stored and taken up again while a call waits for its result', async () => {
    const { chat } = chatWith(answer('', 'a'))
    await chat.send('Is it warm?')
    const stored = JSON.parse(JSON.stringify(chat)) as ReturnType<typeof chat.toJSON>
    expect(stored.tools).toEqual([{ ...tools[0], description: '' }])
    expect(model.createChat(stored).messages).toEqual(chat.messages)
    const resumed = model.createChat({ ...stored, maxTokens: 2 })
    await resumed.send([result('a')])
    expect(resumed.messages).toHaveLength(4)
  })

  it('wants the results before anything else is said', async () => {
    const messages = [
      { role: 'user', content: 'Is it warm?' },
      { role: 'assistant', content: '', tool_calls: calls('a') as [] },
    ]
    const chat = model.createChat({ messages, tools })
    await expect(chat.send('And now?')).rejects.toThrow(
      "messages[1].tool_calls[0] ('a') has no result",
    )
    await expect(chat.send([result('b')])).rejects.toThrow("The calls before it are 'a'")
    const wrong = [{ role: 'user', content: 'And now?' }] as unknown as ToolMessage[]
    await expect(chat.send(wrong)).rejects.toMatchObject({
      path: 'content[0].role',
      suggestion: 'tool',
      message: expect.stringMatching(/not a message of role 'tool'.*results of calls as/) as string,
    })
    expect(chat.messages).toEqual(messages)
  })
})
