import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { normalizeMessages } from '../../../lib/chat/messages.js'
import { loadModel, type ChatMessage, type Model } from '../../../lib/index.js'
import { tinyFolder } from '../generation/tiny-samples.js'
import { failure } from './failure.js'

const user = { role: 'user', content: 'Is it warm?' }

function call(id: string, name = 'weather', given = `{"of": "${id}"}`) {
  return { id, type: 'function' as const, function: { name, arguments: given } }
}

function calling(content: ChatMessage['content'], ...ids: string[]): ChatMessage {
  return { role: 'assistant', content, tool_calls: ids.map((id) => call(id)) }
}

function result(id: string, content: ChatMessage['content']): ChatMessage {
  return { role: 'tool', tool_call_id: id, content }
}

function written(id: string): string {
  return `✿FUNCTION✿: weather\n✿ARGS✿: {"of": "${id}"}`
}

describe('a turn with tools', () => {
  it('holds the call, its result and what follows', () => {
    const said = { role: 'assistant', content: 'Not very.' }
    const messages = [user, calling(null, 'a'), result('a', '12 °C'), said, user]
    expect(normalizeMessages(messages)).toEqual({
      messages: [
        user,
        {
          role: 'assistant',
          content: `${written('a')}\n✿RESULT✿: 12 °C\n✿RETURN✿: Not very.`,
        },
        user,
      ],
      media: [],
      continues: false,
    })
  })

  it('is left open behind a result, without the colon', () => {
    const { messages, continues } = normalizeMessages([user, calling('', 'a'), result('a', '12')])
    expect(continues).toBe(true)
    expect(messages[1]?.content).toBe(`${written('a')}\n✿RESULT✿: 12\n✿RETURN✿`)
  })

  it('is not open where somebody else speaks next', () => {
    const { messages, continues } = normalizeMessages([calling('', 'a'), result('a', '12'), user])
    expect(continues).toBe(false)
    expect(messages).toEqual([
      { role: 'assistant', content: `${written('a')}\n✿RESULT✿: 12\n✿RETURN✿: ` },
      user,
    ])
  })

  it('has a new line between a text and the call', () => {
    const { messages } = normalizeMessages([calling('I look.', 'a'), result('a', '')])
    expect(messages[0]?.content).toBe(`I look.\n${written('a')}\n✿RESULT✿: \n✿RETURN✿`)
  })

  it('has all calls first, then all results in the order of the calls', () => {
    const { messages } = normalizeMessages([
      calling('', 'a', 'b'),
      result('b', 'of b'),
      result('a', [{ type: 'text', text: 'of a' }]),
    ])
    expect(messages).toEqual([
      {
        role: 'assistant',
        content: `${written('a')}\n${written('b')}\n✿RESULT✿: of a\n✿RESULT✿: of b\n✿RETURN✿`,
      },
    ])
  })

  it('goes on with further calls, which may have the same ids', () => {
    const { messages, continues } = normalizeMessages([
      calling('', 'a'),
      result('a', '1'),
      calling('Once more.', 'a'),
      result('a', '2'),
      calling(null, 'b'),
      result('b', '3'),
    ])
    expect(messages.map(({ content }) => content)).toEqual([
      `${written('a')}\n✿RESULT✿: 1\n✿RETURN✿: Once more.\n${written('a')}\n✿RESULT✿: 2` +
        `\n✿RETURN✿: \n${written('b')}\n✿RESULT✿: 3\n✿RETURN✿`,
    ])
    expect(continues).toBe(true)
  })

  it('has the images of its results where they are shown', () => {
    const image = (name: string) => ({ type: 'image' as const, image: name })
    const { messages, media } = normalizeMessages([
      { role: 'user', content: [image('1.png')] },
      calling([image('2.png')], 'a', 'b'),
      result('b', [image('4.png'), { type: 'text', text: 'seen' }]),
      result('a', [image('3.png')]),
      { role: 'assistant', content: [image('5.png')] },
    ])
    expect(media.map((part) => part.kind === 'image' && part.image)).toEqual(
      [1, 2, 3, 4, 5].map((number) => `${number}.png`),
    )
    expect(media[2]?.path).toBe('messages[3].content[0]')
    const shown = { type: 'image', image: true }
    expect(messages[1]?.content).toEqual([
      shown,
      { type: 'text', text: `\n${written('a')}\n${written('b')}\n✿RESULT✿: ` },
      shown,
      { type: 'text', text: '\n✿RESULT✿: ' },
      shown,
      { type: 'text', text: 'seen\n✿RETURN✿: ' },
      shown,
    ])
  })
})

describe('a history with tools is refused', () => {
  const missing = 'messages[0].tool_calls[1]'
  const [a, b] = [result('a', '1'), result('b', '2')]
  const assistant = (...calls: unknown[]) => [{ role: 'assistant', content: '', tool_calls: calls }]
  const first = 'messages[0].tool_calls[0]'
  it.each<[string, unknown, string, RegExp]>([
    ['a result without a call', [calling('', 'a'), a, b], 'messages[2].tool_call_id', /are 'a'\./],
    [
      'a result long after a call',
      [calling('', 'a'), a, user, b],
      'messages[3].tool_call_id',
      /right behind/,
    ],
    [
      'a result that does not say of what',
      [calling('', 'a'), { role: 'tool', content: '1' }],
      'messages[1].tool_call_id',
      /undefined, which is no call/,
    ],
    [
      'a call without a result',
      [calling('', 'a', 'b'), a, user],
      missing,
      /Add \{ role: 'tool', tool/,
    ],
    ['a last call without a result', [calling('', 'a', 'b'), a], missing, /or leave the call out/],
    [
      'two results of a call',
      [calling('', 'a'), a, a],
      'messages[2].tool_call_id',
      /is messages\[1\] already.*one result/,
    ],
    ['two calls of one id', [calling('', 'a', 'a'), a], `${missing}.id`, /an id of its own/],
    [
      'no list',
      [{ ...user, role: 'assistant', tool_calls: 'a' }],
      'messages[0].tool_calls',
      /list/,
    ],
    ['no call', assistant('a'), first, /must be \{ id/],
    ['no id', assistant({ ...call('a'), id: undefined }), `${first}.id`, /undefined/],
    ['another type', assistant({ ...call('a'), type: 'custom' }), `${first}.type`, /'function'/],
    ['no function', assistant({ id: 'a' }), `${first}.function`, /\{ name, arguments \}/],
    ['no name', assistant(call('a', '')), `${first}.function.name`, /an empty string/],
    [
      'arguments that are no text',
      assistant({ id: 'a', function: { name: 'f', arguments: {} } }),
      `${first}.function.arguments`,
      /Use JSON\.stringify\(\)/,
    ],
    [
      'a misspelt key',
      assistant({ ...call('a'), functoin: {} }),
      `${first}.functoin`,
      /'function'\?/,
    ],
  ])('for %s', (_, messages, path, message) => {
    const error = failure(messages)
    expect(error.path).toBe(path)
    expect(error.message).toMatch(message)
  })
})

describe('a model that is told what its tools gave', () => {
  let model: Model
  beforeAll(async () => {
    model = await loadModel(tinyFolder)
  })
  afterAll(() => model.dispose())

  const pixels = { data: new Uint8Array(3 * 56 * 56), width: 56, height: 56, channels: 3 as const }
  const messages = [
    user,
    calling('I look.', 'a'),
    result('a', [
      { type: 'image', image: pixels },
      { type: 'text', text: 'sun' },
    ]),
  ]
  const text =
    '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nIs it warm?<|im_end|>\n' +
    `<|im_start|>assistant\nI look.\n${written('a')}\n✿RESULT✿: ` +
    '<|vision_start|><|image_pad|><|vision_end|>sun\n✿RETURN✿'

  it('goes on inside the open turn', async () => {
    expect(model.applyChatTemplate(messages)).toBe(text)
    const options = { maxTokens: 4, temperature: 0 }
    const told = await model.generate({ messages, ...options })
    const prompt = text.split('<|vision_start|><|image_pad|><|vision_end|>')
    const raw = await model.generate({
      prompt: [prompt[0]!, { type: 'image', image: pixels }, prompt[1]!],
      ...options,
    })
    expect(told.images).toHaveLength(1)
    expect(told.tokenIds).toEqual(raw.tokenIds)
    expect(told.text).toBe(raw.text.replace(/^: ?/, ''))
  })

  it('does not show the colon with which it goes on', async () => {
    const [colon] = model.tokenizer.encode(':')
    const options = { maxTokens: 2, temperature: 0, logitBias: { [colon!]: 100 } }
    const { text: shown, rawText, tokenIds } = await model.generate({ messages, ...options })
    expect(tokenIds).toEqual([colon, colon])
    expect([shown, rawText]).toEqual([':', ':'])
  })

  it('may be told so by the history of a chat', async () => {
    const said = { role: 'assistant', content: 'Yes.' }
    const history = [user, calling(null, 'a'), result('a', '25 °C'), said]
    const chat = model.createChat({ messages: history, maxTokens: 2 })
    await chat.send('And tomorrow?')
    const stored = JSON.parse(JSON.stringify(chat)) as ReturnType<typeof chat.toJSON>
    expect(stored.messages.slice(0, 4)).toEqual(history)
    expect(model.createChat(stored).messages).toEqual(chat.messages)
  })

  it('closes the turn where no answer is to begin', () => {
    const closed = model.applyChatTemplate(messages, { addGenerationPrompt: false })
    expect(closed).toBe(`${text}<|im_end|>\n`)
  })

  it('needs a template that can leave a turn open', () => {
    const chatTemplate = '{% for m in messages %}[{{ m.role }}]{% endfor %}'
    expect(() => model.applyChatTemplate(messages, { chatTemplate })).toThrow(
      /last turn must be left open.*plain messages/,
    )
  })
})
