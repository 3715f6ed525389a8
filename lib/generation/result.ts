/** What a request gives back: plain data, all of it. */
import type { Grounding, NormalizedGrounding } from '../grounding/geometry.js'
import type { ImageInfo } from '../processor/image.js'
import type { VideoInfo } from '../processor/video.js'
import type { TokenLogprob } from './logprobs.js'
import type { ChatCompletion } from './openai.js'
import type { EffectiveOptions } from './options.js'

/**
 * Why the answer ended: the model said so (or a stop string was met); `maxTokens` or the end of the
 * context was reached; or it ended in calls of tools; or it was aborted and `onAbort: 'return'` asked for
 * the part so far.
 */
export type FinishReason = 'stop' | 'length' | 'tool-calls' | 'abort'

/** The model asks the caller to run a function, and to tell it the result in a message of role `tool`. */
export interface ToolCall {
  /** Made up; `tool_call_id` of the result names it. */
  id: string
  /** Of the tool. */
  name: string
  /** Parsed; where the tool was given with a Zod or Standard Schema object, what that makes of them. */
  arguments: unknown
  /** As the model wrote them. */
  argumentsText: string
  /** Why `arguments` are not what the tool's schema says: it refuses them for a reason that JSON Schema has no word for. */
  error?: string
}

/** Tokens of a request. */
export interface Usage {
  /** All tokens of the prompt: text, images and videos. */
  promptTokens: number
  textTokens: number
  imageTokens: number
  videoTokens: number
  /**
   * Prompt tokens that were not computed again, because an earlier prompt or answer began alike. Not known
   * yet in the first event of a stream, which says 0.
   */
  cachedTokens: number
  /** Tokens of the answer, the one that ended it included; of all answers with `n`. */
  completionTokens: number
  /** Tokens that prompt lookup guessed and the model verified; of all answers with `n`. */
  draftTokens: number
  /** Of `draftTokens`, those that came true: each saved a step. */
  acceptedDraftTokens: number
}

/** Where the time went, in milliseconds. With `n`, of all answers together. */
export interface Timings {
  /** Between the hand-over to the engine and its first work for this request. */
  queueMs: number
  /** Decoding and resizing images, template, tokenizer. */
  preprocessMs: number
  visionMs: number
  /** Steps that carried part of the prompt; concurrent requests share steps. */
  prefillMs: number
  /** From the call to the first token. */
  firstTokenMs: number
  /** From the first to the last token. */
  decodeMs: number
  /** Of the answer, from its first to its last token; 0 for an answer of one token. */
  tokensPerSecond: number
}

/** An image of a request, and whether its visual tokens were known already. */
export interface ImageResult extends ImageInfo {
  /** Not encoded for this request: the image or the beginning of the prompt came before. */
  cached: boolean
}

/** One of the answers to a prompt. */
export interface Choice<Value = unknown> {
  index: number
  /** The answer without special tokens, up to its first call of a tool. */
  text: string
  /** The answer with its special tokens, as `<|box_start|>`, but without the one that ended it, and without calls. */
  rawText: string
  /**
   * Boxes, quads and points of the answer in pixels of the original picture. Empty where the request has
   * pictures of different sizes: then they are in `unplacedBoxes`.
   */
  boxes: Grounding[]
  /** What the answer points at in one of several pictures, or in none; `scaleTo()` gives pixels. */
  unplacedBoxes: NormalizedGrounding[]
  /** What the model calls, in order; a call that the end of the answer cut off is left out. */
  toolCalls: ToolCall[]
  /**
   * The value of the answer, where `responseFormat` asks for JSON or a choice: parsed, and where a Zod or
   * Standard Schema object was given, what that makes of it. Absent where there is none: see `objectError`.
   */
  object?: Value
  /** Why there is no `object`, for example because the answer ended at `maxTokens`. */
  objectError?: string
  finishReason: FinishReason
  /** Give it to a later request to draw the same tokens again. */
  seed: number
  /** Ids of the answer, the one that ended it included. */
  tokenIds: number[]
  /** One for each of `tokenIds`, where `logprobs` asked for them. */
  logprobs?: TokenLogprob[]
}

/** A whole answer. With `n`, its text and what belongs to it are those of the first choice. */
export interface GenerateResult<Value = unknown> extends Omit<Choice<Value>, 'index'> {
  /** All `n` answers; the first is the one above. */
  choices: Choice<Value>[]
  usage: Usage
  timings: Timings
  /** Original and resized sizes of the images, in order of appearance. */
  images: ImageResult[]
  /** Frames, sizes and tokens of the videos, in order of appearance. */
  videos: VideoInfo[]
  /** The options that took effect, after the checkpoint's defaults were merged. */
  options: EffectiveOptions
  /** The body that OpenAI's `/v1/chat/completions` answers with. Not enumerable: the rest is data. */
  toOpenAI(): ChatCompletion
}

/** Which of `n` answers an event belongs to; absent where there is but one. */
export interface OfChoice {
  index?: number
}

/** What a stream yields. An error rejects the iterator instead. */
export type GenerationEvent =
  | { type: 'start'; usage: Usage; images: ImageInfo[] }
  /**
   * The piece of text that a token completed. `tokenId` is that token's; pieces that complete
   * nothing, as inside a character, are not yielded. With `logprobs` comes the token's `logprob`, and
   * in `logprobs` those of all tokens since the last piece, without the one that ends the answer.
   */
  | ({
      type: 'text'
      text: string
      tokenId: number
      logprob?: number
      logprobs?: TokenLogprob[]
    } & OfChoice)
  /** A box, quad or point is complete; it comes after the text before its end. */
  | ({ type: 'box'; box: Grounding } & OfChoice)
  /** The same for one that goes to `unplacedBoxes`. */
  | ({ type: 'unplaced-box'; box: NormalizedGrounding } & OfChoice)
  /** A call is complete; no text comes after it. */
  | ({ type: 'tool-call' } & ToolCall & OfChoice)
  /** Once, when all answers have ended; with `n`, the reason is the first one's. */
  | { type: 'finish'; finishReason: FinishReason; usage: Usage; timings: Timings }

/** Token counts of a request that has not been run. */
export interface TokenCount {
  promptTokens: number
  textTokens: number
  imageTokens: number
  videoTokens: number
  images: ImageInfo[]
  videos: VideoInfo[]
}
