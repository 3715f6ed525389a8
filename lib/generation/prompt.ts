/** From messages to what the engine takes: token ids with room for the images, and their pixels. */
import { normalizeMessages, normalizePrompt, type MediaPart } from '../chat/messages.js'
import { expandPlaceholders } from '../chat/prompt.js'
import { ChatTemplate } from '../chat/template.js'
import type { Checkpoint } from '../checkpoint/checkpoint.js'
import type { PictureSize } from '../grounding/geometry.js'
import type { NativeVisionItem } from '../native.js'
import {
  prepareImage,
  prepareVideo,
  type ImageInfo,
  type PreparedItem,
} from '../processor/image.js'
import type { MediaOptions } from '../processor/media-options.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import type { Abort } from './abort.js'
import { commonSize } from './found-boxes.js'
import type { Limiter } from './limiter.js'

/** What turning messages into a prompt needs of a model. */
export interface PromptContext {
  checkpoint: Pick<Checkpoint, 'config' | 'generation' | 'preprocessor'>
  tokenizer: Tokenizer
  template: ChatTemplate
  /** What is accepted as images and videos. */
  media?: MediaOptions | undefined
  /** Images and videos that all requests together decode at once: each takes its memory. */
  mediaLimiter: Limiter
}

/** The part of a request that makes its prompt. */
export interface PromptRequest {
  messages?: unknown
  /** Instead of messages. */
  prompt?: unknown
  addVisionId?: boolean | undefined
  addGenerationPrompt?: boolean | undefined
  chatTemplate?: string | undefined
}

/** Tokens of a prompt by what they stand for. */
export interface PromptCounts {
  promptTokens: number
  textTokens: number
  imageTokens: number
  videoTokens: number
}

/** A prompt as the engine takes it. */
export interface Prompt {
  /** The rendered text, each image or video one placeholder. */
  text: string
  tokenIds: Int32Array
  /** Images and videos in order of appearance. */
  items: NativeVisionItem[]
  /** The same, with their sizes. */
  media: PreparedItem[]
  counts: PromptCounts
  /** Of the images, in order of appearance. */
  images: ImageInfo[]
  /** The size in which all images and videos came; undefined if there are none, or of several sizes. */
  pictureSize: PictureSize | undefined
}

/** Images first, because they take longest and decide how long the prompt is; then the text. */
export async function preparePrompt(
  context: PromptContext,
  request: PromptRequest,
  abort: Abort,
): Promise<Prompt> {
  const { text, media } =
    request.prompt === undefined
      ? renderMessages(context.template, request)
      : normalizePrompt(request.prompt)
  const items = await abort.race(prepareMedia(context, media, abort))
  const ids = await abort.race(context.tokenizer.encodeAsync(text))
  const { imageTokenId, videoTokenId } = context.checkpoint.config
  const tokenIds = expandPlaceholders(ids, items, imageTokenId, videoTokenId)
  return {
    text,
    tokenIds,
    media: items,
    items: items.map(({ native }) => native),
    counts: count(tokenIds.length, items),
    images: items.filter(({ kind }) => kind === 'image').map(({ info }) => info),
    pictureSize: commonSize(items.map(({ info }) => info)),
  }
}

/** The text of a conversation, and the media it speaks of. */
export function renderMessages(
  ofCheckpoint: ChatTemplate,
  { messages, chatTemplate, addVisionId = false, addGenerationPrompt = true }: PromptRequest,
): { text: string; media: MediaPart[] } {
  const normal = normalizeMessages(messages)
  const template = chatTemplate === undefined ? ofCheckpoint : ChatTemplate.compile(chatTemplate)
  const text = template.render(normal.messages, { addVisionId, addGenerationPrompt })
  return { text, media: normal.media }
}

/** All of them beside each other, as far as the limiter allows; the first failure is the request's. */
function prepareMedia(
  { checkpoint: { preprocessor }, media: rules, mediaLimiter, memory }: PromptContext,
  media: readonly MediaPart[],
  abort: Abort,
): Promise<PreparedItem[]> {
  // A failure ends the others, which have no other way to hear of it.
  const controller = new AbortController()
  abort.onAbort(() => controller.abort(abort.reason))
  const signal = controller.signal
  const prepare = async (part: MediaPart, index: number) => {
    try {
      signal.throwIfAborted()
      const place = { index, signal, media: rules }
      return part.kind === 'image'
        ? await prepareImage(part.image, part.options, preprocessor, place)
        : await prepareVideo(part.frames, part.options, preprocessor, place)
    } catch (error) {
      controller.abort(error)
      throw error
    }
  }
  return Promise.all(media.map((part, index) => mediaLimiter.run(() => prepare(part, index))))
}

function count(promptTokens: number, items: readonly PreparedItem[]): PromptCounts {
  const sum = (kind: PreparedItem['kind']) =>
    items.reduce((total, item) => total + (item.kind === kind ? item.tokens : 0), 0)
  const imageTokens = sum('image')
  const videoTokens = sum('video')
  return {
    promptTokens,
    textTokens: promptTokens - imageTokens - videoTokens,
    imageTokens,
    videoTokens,
  }
}
