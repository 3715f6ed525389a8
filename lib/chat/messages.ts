/**
 * Messages as callers write them, and their one normal form. These spellings of a content part are
 * understood: the package's own (camelCase), that of the Python reference (snake_case), OpenAI's
 * (`image_url`, `video_url`, `input_text`, `input_image`) and the AI SDK's (`file`).
 */
import type { PixelOptions } from '../processor/image.js'
import { isImageSource, type ImageSource } from '../processor/source.js'
import type { VideoOptions, VideoSource } from '../processor/video.js'
import { nearestName } from '../suggest.js'
import { invalid, isRecord, nameOf, quoted, refuseUnknownKeys, shown } from './checks.js'
import { filePartToNative, videoUrlToNative } from './foreign-parts.js'
import {
  checkLimits,
  imageSource,
  pixelKeys,
  pixelOptions,
  type SnakeCasePixelOptions,
} from './pixel-options.js'
import { joinToolTurns, readToolCalls, type ReadMessage } from './tool-turns.js'
import { normalizeVideo, samplingKeys, type VideoPart } from './video-part.js'

/** A piece of text. `input_text` is the spelling of OpenAI's Responses API. */
export interface TextPart {
  type: 'text' | 'input_text'
  text: string
}

/** One image, in the package's own or the Python reference's spelling. */
export interface ImagePart extends PixelOptions, SnakeCasePixelOptions {
  type: 'image'
  image: ImageSource
}

/** One image in OpenAI's spellings. `detail` has no effect: the pixel limits decide. */
export interface ImageUrlPart extends PixelOptions, SnakeCasePixelOptions {
  type: 'image_url' | 'input_image'
  image_url:
    | ImageSource
    | ({ url: ImageSource; detail?: 'auto' | 'low' | 'high' } & PixelOptions &
        SnakeCasePixelOptions)
  detail?: 'auto' | 'low' | 'high'
}

/** A video in the spelling of vLLM and other servers; options may stand beside or inside the object. */
export interface VideoUrlPart extends Omit<VideoPart, 'type' | 'video'> {
  type: 'video_url'
  video_url: string | URL | ({ url: string | URL } & Omit<VideoPart, 'type' | 'video'>)
}

/** An image or video as the AI SDK writes it. A string is a URL or base64, never a path. */
export interface FilePart extends Omit<VideoPart, 'type' | 'video'> {
  type: 'file'
  /** `image/…` or `video/…`. What kind of picture it is, its bytes tell. */
  mediaType: string
  data: string | URL | Uint8Array | ArrayBuffer
  /** Accepted and not looked at. */
  filename?: string
}

/** What a message's content is made of. */
export type ContentPart = TextPart | ImagePart | ImageUrlPart | VideoPart | VideoUrlPart | FilePart

/** One turn of a conversation. Any role is allowed; the template decides what it means. */
export interface ChatMessage {
  role: string
  /** `null` only beside `tool_calls`. */
  content: string | readonly ContentPart[] | null
  /** Of an assistant: what it called. The results follow as messages with `role: 'tool'`. */
  tool_calls?: readonly MessageToolCall[]
  /** Of `role: 'tool'`: the call whose result this is. Without calls in the history it has no effect. */
  tool_call_id?: string
  /** As OpenAI's answers carry it, so that one can be put into the history as it came. */
  refusal?: null
}

/** A call of a function, as OpenAI's answers have it. */
export interface MessageToolCall {
  id: string
  type: 'function'
  /** `arguments` is JSON as text. */
  function: { name: string; arguments: string }
}

/** A prompt without roles, for checkpoints that were not taught a chat format. */
export type RawPrompt = string | readonly (string | ContentPart)[]

/** A content part as the chat template sees it. */
export type TemplatePart =
  { type: 'text'; text: string } | { type: 'image'; image: true } | { type: 'video'; video: true }

/** A message as the chat template sees it: no pixels, one spelling. */
export interface TemplateMessage {
  role: string
  content: string | TemplatePart[]
}

/** An image or video of the conversation. `path` says where it stands, for messages of errors. */
export type MediaPart =
  | { kind: 'image'; image: ImageSource; options: PixelOptions; path: string }
  | { kind: 'video'; video: VideoSource; options: VideoOptions; path: string }

/** Checked messages: text for the template, and the media in order of appearance. */
export interface NormalizedMessages {
  messages: TemplateMessage[]
  media: MediaPart[]
  /** The last turn is an assistant's that waits to be continued, behind the result of a tool. */
  continues: boolean
}

/**
 * Checks messages of any accepted spelling and brings them into the one normal form.
 *
 * @throws InvalidArgumentError with the `path` of the first fault, e.g. `messages[0].content[1].maxPixels`.
 */
export function normalizeMessages(messages: unknown): NormalizedMessages {
  if (!Array.isArray(messages)) {
    throw invalid(
      'messages',
      `messages must be a list of { role, content }, not ${nameOf(messages)}.`,
    )
  }
  if (messages.length === 0) {
    throw invalid('messages', 'messages is empty. Give at least one { role, content }.')
  }
  return joinToolTurns(messages.map((message, index) => readMessage(message, `messages[${index}]`)))
}

/** A raw prompt's text, with markers where the media stand, and the media in order of appearance. */
export interface NormalizedPrompt {
  text: string
  media: MediaPart[]
}

/**
 * Checks a raw prompt and writes it as the base models' template does: the texts, a marker for each
 * image or video, and nothing else.
 *
 * @throws InvalidArgumentError with the `path` of the first fault, e.g. `prompt[1].maxPixels`.
 */
export function normalizePrompt(prompt: unknown): NormalizedPrompt {
  const media: MediaPart[] = []
  if (prompt === '' || (Array.isArray(prompt) && prompt.length === 0)) {
    throw invalid('prompt', 'prompt is empty. Give a text, or a list of texts and parts.')
  }
  if (typeof prompt === 'string') return { text: prompt, media }
  if (!Array.isArray(prompt)) {
    throw invalid(
      'prompt',
      `prompt must be a string or a list of strings and parts, not ${nameOf(prompt)}.`,
    )
  }
  const texts = prompt.map((part: unknown, index) => {
    if (typeof part === 'string') return part
    const normal = normalizePart(part, `prompt[${index}]`, media)
    return normal.type === 'text' ? normal.text : marker(normal.type)
  })
  return { text: texts.join(''), media }
}

function marker(kind: 'image' | 'video'): string {
  return `<|vision_start|><|${kind}_pad|><|vision_end|>`
}

function readMessage(given: unknown, path: string): ReadMessage {
  if (!isRecord(given)) {
    throw invalid(path, `${path} must be an object { role, content }, not ${nameOf(given)}.`)
  }
  const message = withoutEmptyAnswerKeys(given)
  const { role } = message
  refuseOtherCalls(message, path)
  refuseUnknownKeys(message, keysOf(role), path)
  if (typeof role !== 'string' || role === '') {
    throw invalid(
      `${path}.role`,
      `${path}.role must be a string such as 'system', 'user' or 'assistant', not ${nameOf(role)}.`,
    )
  }
  const calls = readToolCalls(message['tool_calls'], `${path}.tool_calls`)
  const content = message['content'] ?? (calls.length > 0 ? '' : message['content'])
  const media: MediaPart[] = []
  const rest = { role, path, media, calls, resultOf: message['tool_call_id'] }
  if (typeof content === 'string') return { ...rest, content }
  if (!Array.isArray(content)) {
    throw invalid(
      `${path}.content`,
      `${path}.content must be a string or a list of parts, not ${nameOf(content)}.`,
    )
  }
  return {
    ...rest,
    content: content.map((part, index) => normalizePart(part, `${path}.content[${index}]`, media)),
  }
}

/** OpenAI's answers name what they do not have: `refusal: null`, `annotations: []`. */
function withoutEmptyAnswerKeys(message: Record<string, unknown>): Record<string, unknown> {
  const isEmpty = (value: unknown) => value === null || (Array.isArray(value) && value.length === 0)
  return Object.fromEntries(
    Object.entries(message).filter(([key, value]) => !answerKeys.includes(key) || !isEmpty(value)),
  )
}

function keysOf(role: unknown): readonly string[] {
  if (role === 'tool') return [...messageKeys, 'tool_call_id']
  return role === 'assistant' ? [...messageKeys, 'tool_calls'] : messageKeys
}

/** Other spellings of calls, some of them without the ids that results need. */
function refuseOtherCalls(message: Record<string, unknown>, path: string): void {
  for (const key of otherCallKeys) {
    if (message[key] === undefined) continue
    throw invalid(
      `${path}.${key}`,
      `${path}.${key} is not known. Write calls as tool_calls: ` +
        "[{ id, type: 'function', function: { name, arguments } }].",
      'tool_calls',
    )
  }
}

function normalizePart(part: unknown, path: string, media: MediaPart[]): TemplatePart {
  if (!isRecord(part)) {
    const hint = typeof part === 'string' ? " Write { type: 'text', text: '…' }." : ''
    throw invalid(path, `${path} must be a content part, not ${nameOf(part)}.${hint}`)
  }
  const kind = partKind(part, path)
  switch (kind) {
    case 'file':
      return normalizePart(filePartToNative(part, path), path, media)
    case 'video_url':
      return normalizePart(videoUrlToNative(part, path), path, media)
    case 'text':
      return normalizeText(part, path)
    case 'image':
      media.push(normalizeImage(part, path))
      return { type: 'image', image: true }
    case 'video':
      media.push(normalizeVideo(part, path))
      return { type: 'video', video: true }
  }
}

/** By `type`; without one, by the key that carries the content, as the reference does. */
function partKind(
  part: Record<string, unknown>,
  path: string,
): 'text' | 'image' | 'video' | 'video_url' | 'file' {
  const { type } = part
  if (type === undefined) {
    if ('image' in part || 'image_url' in part) return 'image'
    if ('video' in part) return 'video'
    if ('text' in part) return 'text'
    throw invalid(`${path}.type`, `${path}.type is missing. It is one of ${quoted(partTypes)}.`)
  }
  switch (type) {
    case 'text':
    case 'input_text':
      return 'text'
    case 'image':
    case 'image_url':
    case 'input_image':
      return 'image'
    case 'video':
      return 'video'
    case 'video_url':
      return 'video_url'
    case 'file':
      return 'file'
    default: {
      const suggestion = typeof type === 'string' ? nearestName(type, partTypes) : undefined
      throw invalid(
        `${path}.type`,
        `${path}.type is ${typeof type === 'string' ? `'${type}'` : nameOf(type)}. ` +
          (suggestion === undefined
            ? `It must be one of ${quoted(partTypes)}.`
            : `Did you mean '${suggestion}'?`),
        suggestion,
      )
    }
  }
}

function normalizeText(part: Record<string, unknown>, path: string): TemplatePart {
  refuseUnknownKeys(part, textKeys, path)
  const { text } = part
  if (typeof text !== 'string') {
    throw invalid(`${path}.text`, `${path}.text must be a string, not ${nameOf(text)}.`)
  }
  return { type: 'text', text }
}

function normalizeImage(part: Record<string, unknown>, path: string): MediaPart {
  refuseVideoOptions(part, path)
  refuseUnknownKeys(part, imageKeys, path)
  checkDetail(part['detail'], `${path}.detail`)
  const key = onlyOneOf(part, ['image', 'image_url'], path)
  const value = part[key]
  const valuePath = `${path}.${key}`
  const options = pixelOptions(part, path)
  if (key === 'image_url' && isRecord(value) && !isImageSource(value)) {
    // OpenAI's object form. Pixel limits inside it are how other servers take them.
    refuseVideoOptions(value, valuePath)
    refuseUnknownKeys(value, imageUrlKeys, valuePath)
    checkDetail(value['detail'], `${valuePath}.detail`)
    const inner = pixelOptions(value, valuePath)
    for (const name of Object.keys(inner)) {
      if (name in options)
        throw invalid(`${valuePath}.${name}`, `${valuePath}.${name} is given twice.`)
    }
    const all = { ...options, ...inner }
    checkLimits(all, path)
    return {
      kind: 'image',
      image: imageSource(value['url'], `${valuePath}.url`),
      options: all,
      path,
    }
  }
  checkLimits(options, path)
  return { kind: 'image', image: imageSource(value, valuePath), options, path }
}

function refuseVideoOptions(part: Record<string, unknown>, path: string): void {
  for (const key of samplingKeys) {
    if (part[key] === undefined) continue
    throw invalid(
      `${path}.${key}`,
      `${path}.${key} chooses frames of a video, and this is an image. Leave it out.`,
    )
  }
}

function checkDetail(detail: unknown, path: string): void {
  if (detail === undefined || detail === 'auto' || detail === 'low' || detail === 'high') return
  throw invalid(path, `${path} must be 'auto', 'low' or 'high', not ${shown(detail)}.`)
}

function onlyOneOf<Key extends string>(
  part: Record<string, unknown>,
  keys: readonly [Key, ...Key[]],
  path: string,
): Key {
  const given = keys.filter((key) => part[key] !== undefined)
  if (given.length > 1) throw invalid(path, `${path} has both ${given.join(' and ')}. Give one.`)
  const key = given[0]
  if (key === undefined) {
    throw invalid(`${path}.${keys[0]}`, `${path}.${keys[0]} is missing. Give the picture there.`)
  }
  return key
}

const partTypes = [
  ...['text', 'image', 'video', 'image_url', 'video_url'],
  ...['input_text', 'input_image', 'file'],
] as const
const messageKeys = ['role', 'content'] as const
const otherCallKeys = ['toolCalls', 'function_call', 'functionCall'] as const
const answerKeys: readonly string[] = [
  ...['refusal', 'annotations', 'audio', 'tool_calls'],
  ...otherCallKeys,
]
const textKeys = ['type', 'text'] as const
const imageKeys = ['type', 'image', 'image_url', 'detail', ...pixelKeys] as const
const imageUrlKeys = ['url', 'detail', ...pixelKeys] as const
