/**
 * Decodes picture files to the samples that the reference's decoder (Pillow) gives: no rotation by
 * EXIF unless asked for, no colour management, the first frame or page only. The work is done on sharp's threads.
 *
 * Where it knowingly differs: 16-bit grey gives its high bytes, as 16-bit RGB does (Pillow clips it to
 * white); what the first frame of a GIF does not cover is black (Pillow: some colour of the palette);
 * AVIF and SVG are what libheif and librsvg make of them.
 */
import type { Metadata, SharpOptions } from 'sharp'
import { BackendError, ImageError } from '../errors.js'
import type { NativeRawPixels } from '../native.js'
import { PNG_GREY_ALPHA, PNG_RGBA, readContainer, type Container } from './container.js'
import { DEFAULT_MEDIA_OPTIONS, type MediaOptions } from './media-options.js'
import { sharp } from './sharp.js'

/** How pictures are decoded. */
export type DecodeOptions = Pick<MediaOptions, 'maxImagePixels' | 'alpha' | 'exif'>

/** Decoded samples, and what the reference does with a fourth (or second) channel. */
export interface DecodedImage {
  pixels: NativeRawPixels
  alpha: 'composite' | 'drop'
}

/**
 * @param bytes of the file; must not be changed before the promise settles.
 * @throws ImageError `ERR_IMAGE_DECODE` for what is no picture, damaged or cut short, and
 *   `ERR_IMAGE_TOO_LARGE` for one of more than `maxImagePixels` pixels, before it is decoded.
 */
export async function decodeImage(
  bytes: Uint8Array,
  { maxImagePixels: maxPixels, alpha, exif }: DecodeOptions = DEFAULT_MEDIA_OPTIONS,
): Promise<DecodedImage> {
  const container = readContainer(bytes)
  const input = withoutGifTransparency(bytes, container)
  const options = sharpOptions(container, exif)
  const metadata = await decoding(bytes, () =>
    sharp(input, { ...options, limitInputPixels: false }).metadata(),
  )
  checkSize(metadata, maxPixels)
  const pipeline = sharp(input, { ...options, limitInputPixels: maxPixels })
  const cmyk = metadata.space === 'cmyk'
  // Named as the working and the output space, CMYK passes through unconverted.
  if (cmyk) pipeline.removeAlpha().pipelineColourspace('cmyk').toColourspace('cmyk')
  const { data, info } = await decoding(bytes, () =>
    pipeline.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true }),
  )
  const { width, height, channels } = info
  return {
    pixels: { data, width, height, channels, cmyk },
    alpha: alpha === 'composite' && transparencyCounts(container, metadata) ? 'composite' : 'drop',
  }
}

/**
 * The size in which decodeImage() would give a picture, from its header.
 *
 * @throws ImageError as decodeImage() does, but for damage behind the header.
 */
export async function readImageSize(
  bytes: Uint8Array,
  { maxImagePixels, exif }: DecodeOptions = DEFAULT_MEDIA_OPTIONS,
): Promise<{ width: number; height: number }> {
  const options = sharpOptions(readContainer(bytes), exif)
  const metadata = await decoding(bytes, () =>
    sharp(bytes, { ...options, limitInputPixels: false }).metadata(),
  )
  checkSize(metadata, maxImagePixels)
  const { width, height } = options.autoOrient ? metadata.autoOrient : metadata
  return { width, height }
}

function sharpOptions({ format }: Container, exif: DecodeOptions['exif']): SharpOptions {
  return {
    // What Pillow calls an error, and no mere warnings: junk between JPEG segments is common.
    failOn: 'error',
    ignoreIcc: true,
    // Pillow turns TIFF files as their orientation says when it loads them, and no others.
    autoOrient: exif === 'apply' || format === 'tiff',
  }
}

/**
 * The reference puts white behind pictures that Pillow opens as RGBA. Palettes with transparency,
 * colour keys and grey with 8-bit alpha are not among them; 16-bit grey with alpha is.
 */
function transparencyCounts(container: Container, metadata: Metadata): boolean {
  switch (container.format) {
    case 'png': {
      const { colourType, bitDepth } = container
      return colourType === PNG_RGBA || (colourType === PNG_GREY_ALPHA && bitDepth === 16)
    }
    case 'gif':
      return false
    case 'tiff':
      return metadata.space !== 'b-w'
    case 'other':
      return true
  }
}

/**
 * GIF transparency is dropped by the reference, which shows the palette's colour there; a decoder
 * that honours it leaves nothing to show. Clears the flag in a copy.
 */
function withoutGifTransparency(bytes: Uint8Array, container: Container): Uint8Array {
  if (container.format !== 'gif' || container.transparencyFlag === undefined) return bytes
  const copy = Buffer.from(bytes)
  copy.writeUInt8(copy.readUInt8(container.transparencyFlag) & ~1, container.transparencyFlag)
  return copy
}

function checkSize({ width, height }: Metadata, maxPixels: number): void {
  if (width * height <= maxPixels) return
  throw new ImageError(
    'ERR_IMAGE_TOO_LARGE',
    `it has ${width} x ${height} = ${(width * height).toLocaleString('en')} pixels; at most ` +
      `${maxPixels.toLocaleString('en')} are decoded. Send a smaller picture.`,
    { details: { width, height, limit: maxPixels } },
  )
}

async function decoding<T>(bytes: Uint8Array, run: () => Promise<T>): Promise<T> {
  try {
    return await run()
  } catch (cause) {
    if (cause instanceof BackendError) throw cause // not the picture's fault
    const reason = (cause as Error).message.trim().replace(/\s*\n\s*/g, '; ')
    throw new ImageError(
      'ERR_IMAGE_DECODE',
      `its ${bytes.length.toLocaleString('en')} bytes cannot be decoded (${reason}). Send a whole ` +
        'JPEG, PNG, WebP, GIF, TIFF, AVIF or SVG file.',
      { cause },
    )
  }
}
