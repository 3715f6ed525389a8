import { describe, expect, it } from 'vitest'
import {
  type ChatMessage,
  type NormalizedMessages,
  normalizeMessages,
  normalizePrompt,
} from '../../../lib/chat/messages.js'
import type { InvalidArgumentError } from '../../../lib/errors.js'
import { failure } from './failure.js'

const pixels = { data: new Uint8Array(12), width: 2, height: 2, channels: 3 as const }

function user(...content: unknown[]): Omit<NormalizedMessages, 'continues'> {
  const { messages, media } = normalizeMessages([{ role: 'user', content }])
  return { messages, media }
}

function partFailure(part: unknown): InvalidArgumentError {
  return failure([{ role: 'user', content: [{ type: 'text', text: 'Look:' }, part] }])
}

describe('messages', () => {
  it('keep their texts and lose their pixels', () => {
    const messages: ChatMessage[] = [
      { role: 'system', content: 'Be brief.' },
      {
        role: 'user',
        content: [
          { type: 'image', image: 'a.png' },
          { type: 'text', text: 'What differs?' },
          { type: 'video', video: ['0.png', pixels] },
          { type: 'image', image: pixels },
        ],
      },
      { role: 'assistant', content: [] },
    ]
    const path = (part: number) => `messages[1].content[${part}]`
    expect(normalizeMessages(messages)).toEqual({
      messages: [
        { role: 'system', content: 'Be brief.' },
        {
          role: 'user',
          content: [
            { type: 'image', image: true },
            { type: 'text', text: 'What differs?' },
            { type: 'video', video: true },
            { type: 'image', image: true },
          ],
        },
        { role: 'assistant', content: [] },
      ],
      media: [
        { kind: 'image', image: 'a.png', options: {}, path: path(0) },
        { kind: 'video', video: ['0.png', pixels], options: {}, path: path(2) },
        { kind: 'image', image: pixels, options: {}, path: path(3) },
      ],
      continues: false,
    })
  })

  it('may be of any role and have empty texts', () => {
    const messages = [
      { role: 'tool', content: '' },
      { role: 'user', content: [{ type: 'text', text: '' }] },
    ]
    expect(normalizeMessages(messages)).toEqual({ messages, media: [], continues: false })
  })

  it('pass on every kind of image as it is', () => {
    const sources = [
      'a.png',
      'data:image;base64,AAAA',
      new URL('file:///a.png'),
      new Uint8Array(3),
      Buffer.from('x'),
      new ArrayBuffer(3),
      pixels,
      { ...pixels, data: new Uint8ClampedArray(12) },
    ]
    const { media } = user(...sources.map((image) => ({ type: 'image', image })))
    for (const [index, part] of media.entries()) {
      expect(part.kind === 'image' && part.image).toBe(sources[index])
    }
    const video = user({ type: 'video', video: sources }).media[0]
    expect(video?.kind === 'video' && video.video).toEqual(sources)
  })
})

describe('spellings of an image', () => {
  const options = { minPixels: 3136, maxPixels: 100352 }

  it.each<[string, unknown]>([
    ['of this package', { type: 'image', image: 'a.png', ...options }],
    ['of Python', { type: 'image', image: 'a.png', min_pixels: 3136, max_pixels: 100352 }],
    ['of Python with image_url', { type: 'image', image_url: 'a.png', ...options }],
    ['of Python without a type', { image: 'a.png', ...options }],
    ['of OpenAI', { type: 'image_url', image_url: { url: 'a.png', detail: 'auto' }, ...options }],
    [
      'of OpenAI with limits inside',
      { type: 'image_url', image_url: { url: 'a.png', ...options } },
    ],
    ['of OpenAI as a string', { type: 'image_url', image_url: 'a.png', ...options }],
    [
      'of the Responses API',
      { type: 'input_image', image_url: 'a.png', detail: 'high', ...options },
    ],
    [
      'with keys left undefined',
      { type: 'image', image: 'a.png', ...options, resizedWidth: undefined },
    ],
  ])('%s', (_, part) => {
    expect(user(part)).toEqual({
      messages: [{ role: 'user', content: [{ type: 'image', image: true }] }],
      media: [{ kind: 'image', image: 'a.png', options, path: 'messages[0].content[0]' }],
    })
  })
})

describe('files as the AI SDK writes them', () => {
  const bytes = Buffer.from('picture bytes')

  it.each<[string, unknown, unknown]>([
    ['bytes', bytes, bytes],
    ['base64', bytes.toString('base64'), bytes],
    ['a data URL', 'data:image/png;base64,AAAA', 'data:image/png;base64,AAAA'],
    ['a web address', 'https://host/a.png', 'https://host/a.png'],
    ['a URL object', new URL('https://host/a.png'), new URL('https://host/a.png')],
  ])('%s', (_, data, image) => {
    for (const type of [
      { mediaType: 'image/png' },
      { mediaType: 'image/*' },
      { mimeType: 'image/webp' },
    ]) {
      const part = { type: 'file', data, filename: 'a.png', max_pixels: 9000, ...type }
      expect(user(part)).toEqual({
        messages: [{ role: 'user', content: [{ type: 'image', image: true }] }],
        media: [
          { kind: 'image', image, options: { maxPixels: 9000 }, path: 'messages[0].content[0]' },
        ],
      })
    }
  })

  it.each<[string, unknown, string, RegExp]>([
    ['another type', { mediaType: 'audio/mp3', data: bytes }, '.mediaType', /is 'audio\/mp3'/],
    ['no type', { data: bytes }, '.mediaType', /is undefined/],
    ['no data', { mediaType: 'image/png' }, '.data', /not undefined/],
    ['a path', { mediaType: 'image/png', data: './a.png' }, '.data', /neither a URL nor base64/],
    [
      'a name that is none',
      { mediaType: 'image/png', data: bytes, filename: 1 },
      '.filename',
      /a number/,
    ],
    [
      'an image beside it',
      { mediaType: 'image/png', data: bytes, image: 'a' },
      '.image',
      /in data/,
    ],
    [
      'both type keys',
      { mediaType: 'image/png', mimeType: 'image/png', data: bytes },
      '.mimeType',
      /both/,
    ],
    [
      'a misspelt option',
      { mediaType: 'image/png', data: bytes, maxPixel: 1 },
      '.maxPixel',
      /'maxPixels'/,
    ],
    [
      'a frame rate of an image',
      { mediaType: 'image/png', data: bytes, fps: 1 },
      '.fps',
      /is an image/,
    ],
  ])('with %s: says so', (_, part, path, message) => {
    const error = partFailure({ type: 'file', ...(part as object) })
    expect(error.path).toBe(`messages[0].content[1]${path}`)
    expect(error.message).toMatch(message)
  })
})

describe('faults of a video_url', () => {
  it.each<[string, unknown, string, RegExp]>([
    ['no address', { video_url: {} }, '.video_url.url', /address, not undefined/],
    ['a list', { video_url: ['a.png'] }, '.video_url', /address, not a list/],
    [
      'an option twice',
      { video_url: { url: 'a', fps: 1 }, fps: 2 },
      '.video_url.fps',
      /given twice/,
    ],
    ['a video beside it', { video_url: 'a', video: ['b'] }, '', /both video and video_url/],
  ])('%s', (_, part, path, message) => {
    const error = partFailure({ type: 'video_url', ...(part as object) })
    expect(error.path).toBe(`messages[0].content[1]${path}`)
    expect(error.message).toMatch(message)
  })
})

describe('histories with tools', () => {
  it('keep the result of a tool as a turn of its own role', () => {
    const messages = [
      { role: 'user', content: 'Weather?' },
      { role: 'assistant', content: 'I look it up.' },
      { role: 'tool', content: '12 °C', tool_call_id: 'call-1' },
    ]
    expect(normalizeMessages(messages).messages).toEqual([
      messages[0],
      messages[1],
      { role: 'tool', content: '12 °C' },
    ])
  })

  it.each(['toolCalls', 'function_call', 'functionCall'])('refuse %s', (key) => {
    const error = failure([{ role: 'assistant', content: null, [key]: [{ id: 'call-1' }] }])
    expect(error.path).toBe(`messages[0].${key}`)
    expect(error.message).toMatch(/is not known\. Write calls as tool_calls: \[\{ id, type/)
    expect(error.suggestion).toBe('tool_calls')
  })

  it('may hold an answer as OpenAI gives it', () => {
    const answer = { role: 'assistant', content: 'Hi', refusal: null, annotations: [] }
    const calls = { tool_calls: [], function_call: null, audio: null }
    expect(normalizeMessages([{ ...answer, ...calls }]).messages).toEqual([
      { role: 'assistant', content: 'Hi' },
    ])
    expect(failure([{ ...answer, refusal: 'No.' }]).path).toBe('messages[0].refusal')
  })

  it('refuse calls and their ids elsewhere', () => {
    expect(failure([{ role: 'user', content: '', tool_calls: [{}] }]).path).toBe(
      'messages[0].tool_calls',
    )
    expect(failure([{ role: 'user', content: '', tool_call_id: 'a' }]).path).toBe(
      'messages[0].tool_call_id',
    )
  })
})

describe('raw prompts', () => {
  it('are texts and markers, nothing else', () => {
    expect(normalizePrompt('Once')).toEqual({ text: 'Once', media: [] })
    const prompt = [
      { type: 'image', image: 'a.png', maxPixels: 9000 },
      'a cap, ',
      { type: 'text', text: 'and ' },
      { type: 'video', video: ['0.png', '1.png'] },
      { type: 'image_url', image_url: { url: 'b.png' } },
    ]
    const { text, media } = normalizePrompt(prompt)
    expect(text).toBe(
      '<|vision_start|><|image_pad|><|vision_end|>a cap, and <|vision_start|><|video_pad|><|vision_end|>' +
        '<|vision_start|><|image_pad|><|vision_end|>',
    )
    expect(media.map(({ kind, path }) => [kind, path])).toEqual([
      ['image', 'prompt[0]'],
      ['video', 'prompt[3]'],
      ['image', 'prompt[4]'],
    ])
  })

  it.each<[string, unknown, string, RegExp]>([
    ['an empty string', '', 'prompt', /is empty/],
    ['an empty list', [], 'prompt', /is empty/],
    ['a number', 1, 'prompt', /must be a string or a list of strings and parts, not a number/],
    ['a part that is none', ['a', 1], 'prompt[1]', /must be a content part, not a number/],
    ['a message', [{ role: 'user', content: 'a' }], 'prompt[0].type', /is missing/],
    [
      'a wrong option',
      [{ type: 'image', image: 'a', fps: 1 }],
      'prompt[0].fps',
      /this is an image/,
    ],
  ])('cannot be %s', (_, prompt, path, message) => {
    expect(() => normalizePrompt(prompt)).toThrow(expect.objectContaining({ path }) as Error)
    expect(() => normalizePrompt(prompt)).toThrow(message)
  })
})

describe('spellings of the others', () => {
  it('text as input_text, and without a type', () => {
    const { messages } = user({ type: 'input_text', text: 'a' }, { text: 'b' })
    expect(messages[0]?.content).toEqual([
      { type: 'text', text: 'a' },
      { type: 'text', text: 'b' },
    ])
  })

  it('video as the examples of the reference write it', () => {
    const video = ['file:///a/1.jpg', 'file:///a/2.jpg']
    const { media } = user({ type: 'video', video, fps: 1.0, max_pixels: 151200 }, { video })
    expect(media).toMatchObject([
      { kind: 'video', video, options: { maxPixels: 151200 } },
      { kind: 'video', video, options: {} },
    ])
  })

  it('an exact size', () => {
    const [part] = user({ type: 'image', image: 'a', resized_height: 280, resizedWidth: 420 }).media
    expect(part?.options).toEqual({ resizedHeight: 280, resizedWidth: 420 })
  })
})

describe('faults of messages', () => {
  it.each<[string, unknown, string, RegExp]>([
    ['no list', 'Hi', 'messages', /must be a list of \{ role, content \}, not a string/],
    ['nothing', undefined, 'messages', /not undefined/],
    ['an empty list', [], 'messages', /is empty/],
    ['a message that is null', [null], 'messages[0]', /must be an object .* not null/],
    ['a message that is a string', ['Hi'], 'messages[0]', /not a string/],
    [
      'no role',
      [{ content: 'Hi' }],
      'messages[0].role',
      /must be a string such as .* not undefined/,
    ],
    ['an empty role', [{ role: '', content: 'Hi' }], 'messages[0].role', /not an empty string/],
    [
      'content that is null',
      [
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content: null },
      ],
      'messages[1].content',
      /must be a string or a list of parts, not null/,
    ],
    [
      'content that is one part',
      [{ role: 'user', content: { type: 'text', text: 'Hi' } }],
      'messages[0].content',
      /not an object/,
    ],
    [
      'a part that is a string',
      [{ role: 'user', content: ['Hi'] }],
      'messages[0].content[0]',
      /not a string\. Write \{ type: 'text'/,
    ],
  ])('%s', (_, messages, path, message) => {
    const error = failure(messages)
    expect(error.path).toBe(path)
    expect(error.message).toMatch(message)
  })

  it('a misspelt key, with what was meant', () => {
    const error = failure([{ role: 'user', contents: 'Hi' }])
    expect(error.path).toBe('messages[0].contents')
    expect(error.suggestion).toBe('content')
    expect(error.message).toBe("messages[0].contents is not known. Did you mean 'content'?")
  })

  it('a key that is like none, with those that there are', () => {
    const error = failure([{ role: 'user', content: 'Hi', topic: 'x' }])
    expect(error.message).toBe(
      "messages[0].topic is not known. The keys here are 'role', 'content'.",
    )
  })
})

describe('faults of a part', () => {
  const image = { type: 'image', image: 'a.png' }
  const here = 'messages[0].content[1]'

  it.each<[string, unknown, string, RegExp]>([
    ['no type', {}, '.type', /is missing. It is one of 'text', 'image', 'video'/],
    ['a misspelt type', { type: 'imgae', image: 'a' }, '.type', /Did you mean 'image'\?/],
    ['an unknown type', { type: 'audio', audio: 'a' }, '.type', /must be one of 'text', 'image'/],
    ['a type that is a number', { type: 1 }, '.type', /is a number/],
    ['text that is a number', { type: 'text', text: 1 }, '.text', /must be a string, not a number/],
    ['text without text', { type: 'text' }, '.text', /not undefined/],
    ['an image beside text', { type: 'text', text: 'a', image: 'a' }, '.image', /is not known/],
    ['an image without image', { type: 'image' }, '.image', /is missing/],
    ['an image that is null', { type: 'image', image: null }, '.image', /not null/],
    ['an image that is empty', { type: 'image', image: '' }, '.image', /is an empty string/],
    ['an image that is a Map', { type: 'image', image: new Map() }, '.image', /instance of Map/],
    [
      'pixels without a width',
      { type: 'image', image: { data: new Uint8Array(1), height: 1, channels: 1 } },
      '.image',
      /not an object/,
    ],
    ['an image twice', { ...image, image_url: 'b.png' }, '', /has both image and image_url/],
    ['a misspelt option', { ...image, maxPixel: 1 }, '.maxPixel', /Did you mean 'maxPixels'\?/],
    ['an option twice', { ...image, maxPixels: 9, max_pixels: 9 }, '.max_pixels', /has both/],
    ['an option of 0', { ...image, maxPixels: 0 }, '.maxPixels', /from 1 up, not 0/],
    ['an option with a fraction', { ...image, min_pixels: 0.5 }, '.min_pixels', /not 0.5/],
    ['an option that is NaN', { ...image, maxPixels: NaN }, '.maxPixels', /not NaN/],
    ['an option that is text', { ...image, maxPixels: '9' }, '.maxPixels', /not a string/],
    [
      'limits that exclude all',
      { ...image, minPixels: 9, maxPixels: 8 },
      '.minPixels',
      /more than/,
    ],
    ['half a size', { ...image, resizedWidth: 28 }, '.resizedHeight', /go together/],
    [
      'a frame rate of an image',
      { ...image, fps: 2 },
      '.fps',
      /chooses frames of a video, and this is/,
    ],
    ['a frame count of an image', { ...image, nframes: 2 }, '.nframes', /this is an image/],
    [
      'a frame rate inside image_url',
      { type: 'image_url', image_url: { url: 'a', fps: 2 } },
      '.image_url.fps',
      /this is an image/,
    ],
    ['an unknown detail', { ...image, detail: 'max' }, '.detail', /'auto', 'low' or 'high'/],
    [
      'an unknown key of image_url',
      { type: 'image_url', image_url: { uri: 'a.png' } },
      '.image_url.uri',
      /Did you mean 'url'\?/,
    ],
    ['image_url without url', { type: 'image_url', image_url: {} }, '.image_url.url', /undefined/],
    [
      'an option in and beside image_url',
      { type: 'image_url', image_url: { url: 'a', maxPixels: 9 }, maxPixels: 9 },
      '.image_url.maxPixels',
      /given twice/,
    ],
    ['a video without video', { type: 'video' }, '.video', /must be a video file/],
    ['a video without frames', { type: 'video', video: [] }, '.video', /has no frames/],
    ['a frame that is none', { type: 'video', video: ['a', 1] }, '.video[1]', /not a number/],
    ['a rate of 0', { type: 'video', video: ['a'], fps: 0 }, '.fps', /above 0, not 0/],
    [
      'an option of video files',
      { type: 'video', video: ['a'], total_pixels: 9 },
      '.total_pixels',
      /a list of frames is used as it is/,
    ],
  ])('%s', (_, part, path, message) => {
    const error = partFailure(part)
    expect(error.path).toBe(here + path)
    expect(error.message).toMatch(message)
    expect(error.message).toMatch(/^messages\[0\]\.content\[1\]/)
  })
})
