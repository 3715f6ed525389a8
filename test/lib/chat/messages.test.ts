import { describe, expect, it } from 'vitest'
import {
  type ChatMessage,
  type NormalizedMessages,
  normalizeMessages,
} from '../../../lib/chat/messages.js'
import { InvalidArgumentError } from '../../../lib/errors.js'

const pixels = { data: new Uint8Array(12), width: 2, height: 2, channels: 3 as const }

function user(...content: unknown[]): NormalizedMessages {
  return normalizeMessages([{ role: 'user', content }])
}

function failure(messages: unknown): InvalidArgumentError {
  try {
    normalizeMessages(messages)
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidArgumentError)
    return error as InvalidArgumentError
  }
  throw new Error('Nothing was thrown.')
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
        { kind: 'video', frames: ['0.png', pixels], options: {}, path: path(2) },
        { kind: 'image', image: pixels, options: {}, path: path(3) },
      ],
    })
  })

  it('may be of any role and have empty texts', () => {
    const messages = [
      { role: 'tool', content: '' },
      { role: 'user', content: [{ type: 'text', text: '' }] },
    ]
    expect(normalizeMessages(messages)).toEqual({ messages, media: [] })
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
    expect(video?.kind === 'video' && video.frames).toEqual(sources)
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
      { kind: 'video', frames: video, options: { maxPixels: 151200 } },
      { kind: 'video', frames: video, options: {} },
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
    const error = failure([{ role: 'user', content: 'Hi', tool_calls: [] }])
    expect(error.message).toBe(
      "messages[0].tool_calls is not known. The keys here are 'role', 'content'.",
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
    [
      'an image that is a Blob',
      { type: 'image', image: new Blob([]) },
      '.image',
      /instance of Blob/,
    ],
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
    ['a video without video', { type: 'video' }, '.video', /must be a list of frames/],
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

  it.each<[string, unknown]>([
    ['a path', { type: 'video', video: 'film.mp4' }],
    ['a URL', { type: 'video', video: new URL('file:///film.mp4') }],
    ['bytes', { type: 'video', video: new Uint8Array(9) }],
    ['a video_url', { type: 'video_url', video_url: { url: 'film.mp4' } }],
  ])('a video file, given as %s: says that frames are the way', (_, part) => {
    expect(partFailure(part).message).toMatch(
      /Video files are not read yet: give the frames as a list of images/,
    )
  })
})
