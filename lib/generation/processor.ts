/** The processor: messages and pictures to the arrays that a Qwen2-VL model takes, under their published names. */
import { nativeBinding } from '../native.js'
import type { ImageInfo, PreparedItem } from '../processor/image.js'
import type { Abort } from './abort.js'
import { followRequest, parseRequest, type GenerateRequest } from './options.js'
import { preparePrompt, type PromptContext } from './prompt.js'

/** Time, height and width of an image or video in patches of 14 x 14 pixels. */
export type GridThw = [number, number, number]

/** A prompt as arrays. The names are those of transformers' processor, in camelCase. */
export interface ProcessedPrompt {
  /** The rendered prompt, each image or video one placeholder. */
  text: string
  /** Token ids, each placeholder repeated once for every visual token. */
  inputIds: Int32Array
  /** For each token, what it stands for: 0 text, 1 image, 2 video. */
  mmTokenTypeIds: Uint8Array
  /** Normalised patches of all images, rows of 1,176; undefined without images. */
  pixelValues: Float32Array | undefined
  imageGridThw: GridThw[]
  /** Normalised patches of all videos, rows of 1,176; undefined without videos. */
  pixelValuesVideos: Float32Array | undefined
  videoGridThw: GridThw[]
  /** M-RoPE positions, three rows of one number a token: time, height, width. */
  positionIds: Int32Array
  /** What is added to a token's index to give the position of the tokens that follow. */
  ropeDelta: number
  /** Original and resized sizes of the images, in order of appearance. */
  images: ImageInfo[]
}

/** Runs work that ends with the model. */
export type RunWithAbort = <T>(work: (abort: Abort) => Promise<T>) => Promise<T>

/** Turns requests into arrays, by the same steps that `generate()` takes. */
export class Processor {
  readonly #context: PromptContext
  readonly #run: RunWithAbort

  /** Models make theirs; see {@link Model.processor}. */
  constructor(context: PromptContext, run: RunWithAbort) {
    this.#context = context
    this.#run = run
  }

  /**
   * The arrays of a request's prompt. Options that do not bear on the prompt are checked, but change
   * nothing.
   */
  process(request: GenerateRequest): Promise<ProcessedPrompt> {
    return this.#run(async (abort) => {
      const parsed = parseRequest(request)
      followRequest(abort, parsed)
      abort.throwIfAborted()
      const { text, tokenIds, media, images } = await preparePrompt(this.#context, parsed, abort)
      const [imageItems, videoItems] = [itemsOf(media, 'image'), itemsOf(media, 'video')]
      const pixelValues = await abort.race(this.#patches(imageItems))
      const pixelValuesVideos = await abort.race(this.#patches(videoItems))
      const { imageTokenId, videoTokenId } = this.#context.checkpoint.config
      const { positions, delta } = nativeBinding().computePositions(
        tokenIds,
        media.map(({ kind, gridThw: [t, h, w] }) => ({ t, h, w, isVideo: kind === 'video' })),
        imageTokenId,
        videoTokenId,
      )
      return {
        text,
        inputIds: tokenIds,
        mmTokenTypeIds: Uint8Array.from(tokenIds, (id) =>
          id === imageTokenId ? 1 : id === videoTokenId ? 2 : 0,
        ),
        pixelValues,
        imageGridThw: imageItems.map(({ gridThw }) => gridThw),
        pixelValuesVideos,
        videoGridThw: videoItems.map(({ gridThw }) => gridThw),
        positionIds: positions,
        ropeDelta: delta,
        images,
      }
    })
  }

  /** One after the other: each array can be large, and the work runs on native threads. */
  async #patches(items: readonly PreparedItem[]): Promise<Float32Array | undefined> {
    if (items.length === 0) return undefined
    const { imageMean, imageStd, rescaleFactor } = this.#context.checkpoint.preprocessor
    const parts: Float32Array[] = []
    for (const { native } of items) {
      parts.push(await nativeBinding().extractPatches(native, imageMean, imageStd, rescaleFactor))
    }
    return concatenate(parts)
  }
}

function itemsOf(media: readonly PreparedItem[], kind: PreparedItem['kind']): PreparedItem[] {
  return media.filter((item) => item.kind === kind)
}

function concatenate(parts: readonly Float32Array[]): Float32Array {
  const [only] = parts
  if (parts.length === 1 && only !== undefined) return only
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0))
  let length = 0
  for (const part of parts) {
    all.set(part, length)
    length += part.length
  }
  return all
}
