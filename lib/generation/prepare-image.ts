/** An image made ready for one model, outside any request. */
import { z } from 'zod'
import { checkLimits } from '../chat/pixel-options.js'
import type { NativeImage } from '../native.js'
import { prepareImage, type PixelOptions } from '../processor/image.js'
import { PreparedImage } from '../processor/prepared-image.js'
import type { ImageSource } from '../processor/source.js'
import type { Abort } from './abort.js'
import type { GenerationContext } from './generate.js'
import { parseOptions } from './parse-options.js'

const optionsSchema = z.strictObject({
  /** Smaller pictures are enlarged to at least this area. */
  minPixels: z.int().min(1).optional(),
  /** Larger pictures are shrunk to at most this area. */
  maxPixels: z.int().min(1).optional(),
  /** Exact height before rounding to a multiple of 28; needs `resizedWidth`. */
  resizedHeight: z.int().min(1).optional(),
  /** Exact width before rounding to a multiple of 28; needs `resizedHeight`. */
  resizedWidth: z.int().min(1).optional(),
  /** Aborts the work: it rejects with `signal.reason`. */
  signal: z.instanceof(AbortSignal).optional(),
})

const aliases = {
  min_pixels: 'minPixels',
  max_pixels: 'maxPixels',
  resized_height: 'resizedHeight',
  resized_width: 'resizedWidth',
} as const

/**
 * How an image is prepared: as the options of an image part, and a signal.
 *
 * @interface
 */
export type PrepareImageOptions = z.output<typeof optionsSchema> & {
  [Alias in keyof typeof aliases]?: number
}

/** Prepares the image, and has the model keep its visual tokens from their first encode on. */
export async function prepareForModel(
  { checkpoint, media, mediaPlaces, native }: GenerationContext,
  image: ImageSource,
  options: PrepareImageOptions,
  abort: Abort,
): Promise<PreparedImage> {
  const { signal, ...given } = parseOptions(optionsSchema, options, {
    what: 'prepareImage() options',
    example: '{ maxPixels: 1280 * 28 * 28 }',
    aliases,
  })
  const pixels = given as PixelOptions // parseOptions() leaves out what is undefined
  checkLimits(pixels, 'options')
  if (signal) abort.follow(signal)
  abort.throwIfAborted()
  const controller = new AbortController()
  abort.onAbort(() => controller.abort(abort.reason))
  const place = { index: 0, signal: controller.signal, media }
  const item = await abort.race(
    mediaPlaces.runImage(image, place, (ready) =>
      prepareImage(ready, pixels, checkpoint.preprocessor, place),
    ),
  )
  native.pin(item.native)
  const frame = item.native.frames[0] as NativeImage // an image has one
  return new PreparedImage(item.info, frame, () => native.unpin(item.native))
}
