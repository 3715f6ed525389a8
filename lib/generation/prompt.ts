/** From messages to what the engine takes: token ids with room for the images, and their pixels. */
import { normalizeMessages, normalizePrompt, type MediaPart } from '../chat/messages.js'
import { expandPlaceholders, type PlaceholderItem } from '../chat/prompt.js'
import { ChatTemplate } from '../chat/template.js'
import { marks } from '../chat/tool-marks.js'
import { forcedCall, withToolPrompt } from '../chat/tool-prompt.js'
import { readToolUse, type ToolOptions, type ToolUse } from '../chat/tools.js'
import type { Checkpoint, PreprocessorConfig } from '../checkpoint/checkpoint.js'
import type { PictureSize } from '../grounding/geometry.js'
import type { NativeVisionItem } from '../native.js'
import {
  measureImage,
  prepareImage,
  type ImageInfo,
  type MeasuredItem,
  type PrepareContext,
  type PreparedItem,
} from '../processor/image.js'
import type { MediaOptions } from '../processor/media-options.js'
import { measureVideo, prepareVideo, type VideoInfo } from '../processor/video.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import type { Abort } from './abort.js'
import { commonSize } from './found-boxes.js'
import type { MediaPlaces } from './media-places.js'

/** What turning messages into a prompt needs of a model. */
export interface PromptContext {
  checkpoint: Pick<Checkpoint, 'config' | 'generation' | 'preprocessor'>
  tokenizer: Tokenizer
  template: ChatTemplate
  /** What is accepted as images and videos. */
  media?: MediaOptions | undefined
  /** For the images and videos of all requests together: each takes its memory. */
  mediaPlaces: MediaPlaces
  /** Of a chat: what its earlier turns have prepared. */
  memory?: MediaMemory | undefined
}

/** Images and videos of a conversation so far, in order of appearance, ready for the next turn. */
export interface MediaMemory {
  items: readonly PreparedItem[]
}

/** The part of a request that makes its prompt. */
export interface PromptRequest extends ToolOptions {
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
  /** It ends inside an assistant's turn, behind the result of a tool. */
  continues: boolean
  /** What the model was told of tools. */
  toolUse: ToolUse | undefined
  /** Of the images, in order of appearance. */
  images: ImageInfo[]
  /** Of the videos, in order of appearance. */
  videos: VideoInfo[]
  /** The size in which all images and videos came; undefined if there are none, or of several sizes. */
  pictureSize: PictureSize | undefined
}

/** Images first, because they take longest and decide how long the prompt is; then the text. */
export async function preparePrompt(
  context: PromptContext,
  request: PromptRequest,
  abort: Abort,
): Promise<Prompt> {
  const { text, media, continues, toolUse } = readPrompt(context, request)
  const prepare = mediaWork(prepareImage, prepareVideo)
  const known = context.memory?.items
  const items = await abort.race(workOnMedia(context, media, abort, prepare, known))
  if (context.memory) context.memory.items = items
  const tokenIds = await abort.race(encode(context, request, text, items))
  return {
    text,
    tokenIds,
    media: items,
    items: items.map(({ native }) => native),
    counts: count(tokenIds.length, items),
    continues,
    toolUse,
    ...infosOf(items),
    pictureSize: commonSize(items.map(({ info }) => info)),
  }
}

/** The ids of a prompt's text, with room for its images and videos. */
async function encode(
  { tokenizer, checkpoint }: PromptContext,
  { prompt }: PromptRequest,
  text: string,
  items: readonly PlaceholderItem[],
): Promise<Int32Array> {
  const ids = await tokenizer.encodeAsync(text)
  const { imageTokenId, videoTokenId } = checkpoint.config
  const path = prompt === undefined ? 'messages' : 'prompt'
  return expandPlaceholders(ids, items, imageTokenId, videoTokenId, path)
}

/** What can be said of a prompt without decoding its images and videos. */
export interface MeasuredPrompt {
  counts: PromptCounts
  /** Images and videos in order of appearance. */
  items: MeasuredItem[]
  images: ImageInfo[]
  videos: VideoInfo[]
}

/** Reads of images and videos no more than their sizes, and counts. */
export async function measurePrompt(
  context: PromptContext,
  request: PromptRequest,
  abort: Abort,
): Promise<MeasuredPrompt> {
  const { text, media } = readPrompt(context, request)
  const measure = mediaWork(measureImage, measureVideo)
  const items = await abort.race(workOnMedia(context, media, abort, measure))
  const tokenIds = await abort.race(encode(context, request, text, items))
  return { counts: count(tokenIds.length, items), items, ...infosOf(items) }
}

/** A prompt's text, the media it speaks of, and how the answer goes on from it. */
interface PromptText {
  text: string
  media: MediaPart[]
  /** Behind the result of a tool. */
  continues: boolean
  toolUse?: ToolUse | undefined
}

function readPrompt({ template }: PromptContext, request: PromptRequest): PromptText {
  return request.prompt === undefined
    ? renderMessages(template, request)
    : { ...normalizePrompt(request.prompt), continues: false, toolUse: undefined }
}

/** The prompt of a conversation. */
export function renderMessages(
  ofCheckpoint: ChatTemplate,
  {
    messages,
    chatTemplate,
    addVisionId = false,
    addGenerationPrompt = true,
    ...rest
  }: PromptRequest,
): PromptText {
  const normal = normalizeMessages(messages)
  const toolUse = readToolUse(rest)
  const template = chatTemplate === undefined ? ofCheckpoint : ChatTemplate.compile(chatTemplate)
  const continues = normal.continues && addGenerationPrompt
  const options = { addVisionId, addGenerationPrompt, continueLastTurn: continues }
  const told = toolUse ? withToolPrompt(normal.messages, toolUse) : normal.messages
  const text = template.render(told, options)
  const { media } = normal
  if (typeof toolUse?.choice !== 'object' || !addGenerationPrompt) {
    return { text, media, continues, toolUse }
  }
  // The answer does not begin behind the result any more, but inside the call.
  const afterResult = text.endsWith(marks.return) ? ': \n' : ''
  const forced = text + afterResult + forcedCall(toolUse.choice.name)
  return { text: forced, media, continues: false, toolUse }
}

type MediaWork<Item> = (
  part: MediaPart,
  preprocessor: PreprocessorConfig,
  context: PrepareContext,
) => Promise<Item>

function mediaWork<Item>(
  image: (...args: Parameters<typeof prepareImage>) => Promise<Item>,
  video: (...args: Parameters<typeof prepareVideo>) => Promise<Item>,
): MediaWork<Item> {
  return (part, preprocessor, context) =>
    part.kind === 'image'
      ? image(part.image, part.options, preprocessor, context)
      : video(part.video, part.options, preprocessor, context)
}

/** All of them beside each other, as far as there are places; the first failure is the request's. */
function workOnMedia<Item>(
  { checkpoint: { preprocessor }, media: rules, mediaPlaces }: PromptContext,
  media: readonly MediaPart[],
  abort: Abort,
  work: MediaWork<Item>,
  known: readonly Item[] = [],
): Promise<Item[]> {
  // A failure ends the others, which have no other way to hear of it.
  const controller = new AbortController()
  abort.onAbort(() => controller.abort(abort.reason))
  const signal = controller.signal
  const run = async (part: MediaPart, index: number) => {
    const place = { index, signal, media: rules }
    try {
      if (part.kind === 'video') {
        return await mediaPlaces.runVideo(place, (placed) => {
          signal.throwIfAborted()
          return work(part, preprocessor, placed)
        })
      }
      return await mediaPlaces.runImage(part.image, place, (image) =>
        work({ ...part, image }, preprocessor, place),
      )
    } catch (error) {
      controller.abort(error)
      throw error
    }
  }
  return Promise.all(media.map(async (part, index) => known[index] ?? run(part, index)))
}

function infosOf(items: readonly MeasuredItem[]): { images: ImageInfo[]; videos: VideoInfo[] } {
  return {
    images: items.flatMap((item) => (item.kind === 'image' ? [item.info] : [])),
    videos: items.flatMap((item) => (item.kind === 'video' ? [item.info] : [])),
  }
}

function count(promptTokens: number, items: readonly MeasuredItem[]): PromptCounts {
  const sum = (kind: MeasuredItem['kind']) =>
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
