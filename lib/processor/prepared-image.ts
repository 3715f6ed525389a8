/** An image that is read, decoded and resized once and used in many requests. */
import { randomUUID } from 'node:crypto'
import { DisposedError, InvalidArgumentError } from '../errors.js'
import type { NativeImage } from '../native.js'
import type { ImageInfo, PixelOptions, PreparedFrame } from './image.js'

/** Does what is left to do when a prepared image that nobody disposed of is collected. */
const collected = new FinalizationRegistry<() => void>((release) => release())

/**
 * An image that `model.prepareImage()` has made ready: wherever a request takes an image, it takes this as
 * well, also as a frame of a video. The model that made it encodes it once, at its first use, and keeps
 * that until it is disposed of. Its pixels are the resized ones, whatever limits another model has.
 */
export class PreparedImage implements Disposable, ImageInfo {
  /** Names the image in logs; no two have the same. */
  readonly id: string = randomUUID()
  readonly width: number
  readonly height: number
  readonly resizedWidth: number
  readonly resizedHeight: number
  readonly tokens: number
  #native: NativeImage | undefined
  readonly #release: () => void

  /** Models make theirs. `release` is called once, also when the object is collected. */
  constructor(info: ImageInfo, native: NativeImage, release: () => void) {
    this.width = info.width
    this.height = info.height
    this.resizedWidth = info.resizedWidth
    this.resizedHeight = info.resizedHeight
    this.tokens = info.tokens
    this.#native = native
    this.#release = release
    collected.register(this, release, this)
  }

  get disposed(): boolean {
    return this.#native === undefined
  }

  /** Lets go of pixels and visual tokens. Requests that have begun are not affected. Idempotent. */
  dispose(): void {
    if (this.#native === undefined) return
    this.#native = undefined
    collected.unregister(this)
    this.#release()
  }

  /** The same as `dispose()`. */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /**
   * The picture as a request uses it.
   *
   * @throws DisposedError after dispose(), InvalidArgumentError for sizes, which are settled.
   * @internal
   */
  frame(options: PixelOptions): PreparedFrame {
    if (this.#native === undefined) {
      throw new DisposedError(
        'This prepared image has been disposed of. Prepare it again with model.prepareImage().',
        { details: { id: this.id } },
      )
    }
    const [name] = Object.keys(options)
    if (name !== undefined) {
      throw new InvalidArgumentError(
        `${name} has no effect on a prepared image, which is resized already. Give it to ` +
          'model.prepareImage().',
        { path: name },
      )
    }
    return { original: { width: this.width, height: this.height }, image: this.#native }
  }
}
