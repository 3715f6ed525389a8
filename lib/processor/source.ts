/** Where an image comes from: every accepted kind of source, turned into encoded bytes or raw pixels. */
import { open, stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { types } from 'node:util'
import { ImageError, InvalidArgumentError, Qwen2VLError } from '../errors.js'
import { isByteStream, readByteStream, tooManyBytes, type ByteStream } from './byte-stream.js'
import { fetchMedia } from './fetch.js'
import {
  DEFAULT_MEDIA_OPTIONS,
  IMAGE_FETCH_TIMEOUT_MS,
  type MediaOptions,
} from './media-options.js'
import { PreparedImage } from './prepared-image.js'

/** Decoded pixels, rows from top to bottom, `channels` interleaved samples of 8 bits each. */
export interface RawPixels {
  /** `width * height * channels` bytes. Must not be changed until the request has been prepared. */
  data: Uint8Array | Uint8ClampedArray
  width: number
  height: number
  /** 1: grey, 2: grey and alpha (ignored), 3: RGB, 4: RGB and alpha (composited on white). */
  channels: 1 | 2 | 3 | 4
}

/**
 * Something that makes image bytes when asked: a `sharp` pipeline, which is asked for its pixels, or
 * anything else with a `toBuffer()` that gives an encoded image, such as a canvas.
 */
export interface BufferSource {
  /** The bytes of an image file. */
  toBuffer(): Uint8Array | Promise<Uint8Array>
}

/**
 * An image: a path; an `http(s):`, `file:` or `data:` URL as string or `URL` (also
 * `data:image;base64,...`); the bytes of an image file in any view or buffer, which must not be changed
 * meanwhile, or as a `Blob` or a stream, which can be read once; {@link RawPixels}; a `sharp` pipeline; or
 * a {@link PreparedImage}.
 */
export type ImageSource = RawImageSource | PreparedImage

/** An image that has to be read and decoded. */
export type RawImageSource =
  string | URL | ArrayBufferView | ArrayBufferLike | Blob | ByteStream | RawPixels | BufferSource

/** A source that has been read, but not decoded. */
export type LoadedSource =
  { kind: 'encoded'; bytes: Uint8Array } | { kind: 'pixels'; pixels: RawPixels }

/** Tells by its kind alone whether a value can be an image; {@link loadSource} judges what is inside. */
export function isImageSource(value: unknown): value is ImageSource {
  if (typeof value === 'string' || value instanceof URL) return true
  if (ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value)) return true
  if (!isObject(value)) return false
  if (value instanceof PreparedImage) return true
  return hasToBuffer(value) || isBlob(value) || isByteStream(value) || looksLikePixels(value)
}

/** True for what others send in their own time: web addresses, streams, Blobs. */
export function arrivesSlowly(source: ImageSource): boolean {
  if (typeof source === 'string') return /^https?:/i.test(source)
  if (source instanceof URL) return arrivesSlowly(source.href)
  if (!isObject(source) || hasToBuffer(source)) return false
  return isBlob(source) || isByteStream(source)
}

/**
 * Reads a source. Strings are told apart in the reference's order: `http(s):`, `file:`, `data:`,
 * and anything else is a path.
 *
 * @throws ImageError `ERR_IMAGE_NOT_FOUND`, `ERR_IMAGE_READ`, `ERR_IMAGE_EMPTY`, `ERR_IMAGE_SOURCE`,
 *   `ERR_IMAGE_TOO_LARGE` or `ERR_IMAGE_PIXELS`; FetchError for web addresses;
 *   InvalidArgumentError for what is no source at all.
 */
export async function loadSource(
  source: ImageSource,
  media: MediaOptions = DEFAULT_MEDIA_OPTIONS,
  signal?: AbortSignal,
): Promise<LoadedSource> {
  if (typeof source === 'string') return encoded(await loadString(source, media, signal), media)
  if (source instanceof URL) return encoded(await loadString(source.href, media, signal), media)
  if (ArrayBuffer.isView(source) || types.isAnyArrayBuffer(source)) {
    return encoded(bytesOf(source), media)
  }
  if (isObject(source)) {
    // A sharp pipeline is a stream as well: what it can do best comes first.
    if (hasToBuffer(source)) return loadBufferSource(source, media)
    if (isBlob(source)) return encoded(await readBlob(source, media), media)
    if (isByteStream(source)) {
      return encoded(await readByteStream(source, media.maxImageBytes, signal), media)
    }
    if ('data' in source) {
      checkRawPixels(source)
      return { kind: 'pixels', pixels: source }
    }
  }
  throw new InvalidArgumentError(
    `An image is ${describe(source)}; expected a path, a URL, the bytes of an image file (Buffer, typed ` +
      'array, ArrayBuffer, Blob, stream), raw pixels { data, width, height, channels } or a sharp pipeline.',
  )
}

function encoded(bytes: Uint8Array, { maxImageBytes }: MediaOptions): LoadedSource {
  checkEncodedSize(bytes.length, maxImageBytes, 'it')
  if (bytes.length > 0) return { kind: 'encoded', bytes }
  throw new ImageError('ERR_IMAGE_EMPTY', 'it has no bytes. Send the whole file.')
}

function checkEncodedSize(bytes: number, limit: number, name: string): void {
  if (bytes > limit) throw tooManyBytes(name, bytes, limit)
}

/** The same bytes as a Uint8Array; shared memory, which others may write to, is copied. */
function bytesOf(source: ArrayBufferView | ArrayBufferLike): Uint8Array {
  const bytes = ArrayBuffer.isView(source)
    ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
    : new Uint8Array(source)
  return types.isSharedArrayBuffer(bytes.buffer) ? Uint8Array.from(bytes) : bytes
}

async function readBlob(blob: Blob, { maxImageBytes }: MediaOptions): Promise<Uint8Array> {
  checkEncodedSize(blob.size, maxImageBytes, 'it')
  try {
    return new Uint8Array(await blob.arrayBuffer())
  } catch (error) {
    throw new ImageError('ERR_IMAGE_READ', `its Blob cannot be read (${reasonOf(error)}).`, {
      cause: error,
    })
  }
}

/** The part of a sharp pipeline that is needed to ask for pixels instead of a file. */
interface SharpPipeline extends BufferSource {
  clone(): SharpPipeline
  toColourspace(space: 'srgb'): SharpPipeline
  raw(options: { depth: 'uchar' }): {
    toBuffer(options: { resolveWithObject: true }): Promise<{ data: Uint8Array; info: RawPixels }>
  }
}

/** Pixels of a sharp pipeline, so that nothing is lost in a file between; the file of anything else. */
async function loadBufferSource(source: BufferSource, media: MediaOptions): Promise<LoadedSource> {
  try {
    if (!isSharp(source)) {
      const bytes: unknown = await source.toBuffer()
      if (types.isUint8Array(bytes)) return encoded(bytes, media)
      throw new InvalidArgumentError(
        `An image's toBuffer() gave ${describe(bytes)}; expected the bytes of an image file.`,
      )
    }
    const pipeline = source.clone().toColourspace('srgb').raw({ depth: 'uchar' })
    const { data, info } = await pipeline.toBuffer({ resolveWithObject: true })
    const { width, height, channels } = info
    return { kind: 'pixels', pixels: { data, width, height, channels } }
  } catch (error) {
    if (Qwen2VLError.isInstance(error)) throw error
    throw new ImageError(
      'ERR_IMAGE_SOURCE',
      `its toBuffer() failed (${reasonOf(error)}). Check the pipeline, or pass the bytes.`,
      { cause: error },
    )
  }
}

async function loadString(
  source: string,
  media: MediaOptions,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const scheme = /^([a-z][a-z0-9+.-]+):/i.exec(source.slice(0, 64))?.[1]?.toLowerCase()
  switch (scheme) {
    case 'http':
    case 'https':
      return fetchMedia(
        source,
        {
          ...media,
          expect: 'image',
          maxBytes: media.maxImageBytes,
          timeoutMs: media.fetchTimeoutMs ?? IMAGE_FETCH_TIMEOUT_MS,
        },
        signal,
      )
    case 'data':
      return decodeDataUrl(source, media.maxImageBytes)
  }
  if (!media.allowFiles) {
    throw new ImageError(
      'ERR_IMAGE_SOURCE',
      `${shorten(source)} would be read from a file, which this model was told not to do ` +
        '(allowFiles: false). Pass the bytes or a data: URL.',
    )
  }
  return readFirst(scheme === 'file' ? filePaths(source) : [source], source, media.maxImageBytes)
}

/**
 * The paths that a `file:` URL may mean. A proper URL has its percent escapes decoded; the reference
 * cuts off `file://` and takes the rest as it is, so that is tried next.
 */
function filePaths(url: string): string[] {
  const paths: string[] = []
  try {
    paths.push(fileURLToPath(url))
  } catch {
    // Not a proper URL: a relative path after file://, or a % that escapes nothing.
  }
  if (url.startsWith('file://')) paths.push(url.slice('file://'.length))
  return paths.length > 0 ? paths : [url]
}

/** The first of `paths` at which there is something. */
async function readFirst(paths: string[], source: string, maxBytes: number): Promise<Uint8Array> {
  for (const path of paths) {
    const bytes = await readImageFile(path, maxBytes)
    if (bytes !== undefined) return bytes
  }
  throw notFound(paths[0] ?? source)
}

/** undefined when there is nothing at `path`. */
async function readImageFile(path: string, maxBytes: number): Promise<Uint8Array | undefined> {
  try {
    // Asked first, because opening a pipe would wait for a writer.
    const info = await stat(path)
    if (!info.isFile()) {
      throw new ImageError(
        'ERR_IMAGE_READ',
        `${shorten(path)} is ${info.isDirectory() ? 'a folder' : 'not a regular file'}. Name a picture file.`,
      )
    }
    checkEncodedSize(info.size, maxBytes, shorten(path))
    await using handle = await open(path, 'r')
    return await handle.readFile()
  } catch (error) {
    if (error instanceof ImageError) throw error
    const { code } = error as NodeJS.ErrnoException
    const nothingThere = ['ENOENT', 'ENOTDIR', 'ENAMETOOLONG', 'ERR_INVALID_ARG_VALUE']
    if (code !== undefined && nothingThere.includes(code)) return undefined
    throw new ImageError(
      'ERR_IMAGE_READ',
      `${shorten(path)} cannot be read (${(error as Error).message}). Check its permissions.`,
      { cause: error },
    )
  }
}

function notFound(path: string): ImageError {
  const scheme = /^([a-z][a-z0-9+.-]+):\/\//i.exec(path.slice(0, 64))?.[1]
  let hint = 'Check the path; relative ones start at the working directory.'
  if (scheme !== undefined) {
    hint = `Addresses of the scheme ${scheme} are not read: pass the bytes of the picture.`
  } else if (path.length >= 64 && /^[A-Za-z0-9+/_=-]+$/.test(path.slice(0, 4096))) {
    hint = 'It looks like base64: put "data:image;base64," before it.'
  }
  return new ImageError('ERR_IMAGE_NOT_FOUND', `there is no file ${shorten(path)}. ${hint}`)
}

/** Everything after the first `base64,` is decoded; the media type is not looked at. */
function decodeDataUrl(url: string, maxBytes: number): Uint8Array {
  const marker = 'base64,'
  const start = url.indexOf(marker)
  if (start < 0) {
    throw new ImageError(
      'ERR_IMAGE_SOURCE',
      `the data URL ${shorten(url)} is not base64. Write data:image/png;base64,... or pass the bytes.`,
    )
  }
  let text = url.slice(start + marker.length)
  if (!text.includes('%')) checkEncodedSize(Buffer.byteLength(text, 'base64'), maxBytes, 'it')
  if (text.includes('%')) {
    try {
      text = decodeURIComponent(text)
    } catch {
      // Not escapes then; base64 has no % and decoding skips what is foreign to it.
    }
  }
  return Buffer.from(text, 'base64')
}

function checkRawPixels({ data, width, height, channels }: RawPixels): void {
  const fail = (what: string) => {
    throw new ImageError(
      'ERR_IMAGE_PIXELS',
      `${what}. Raw pixels are { data, width, height, channels } with one byte a sample.`,
      { details: { width, height, channels } },
    )
  }
  for (const [name, side] of Object.entries({ width, height })) {
    if (!Number.isSafeInteger(side) || side < 1) fail(`its ${name} is ${describe(side)}`)
  }
  if (![1, 2, 3, 4].includes(channels)) fail(`its channels are ${describe(channels)}, not 1 to 4`)
  if (!types.isUint8Array(data) && !types.isUint8ClampedArray(data)) {
    fail(`its data is ${describe(data)}, not a Uint8Array`)
  }
  const expected = width * height * channels
  if (data.length !== expected) {
    fail(`its data has ${data.length} bytes, not ${width} x ${height} x ${channels} = ${expected}`)
  }
}

/** A broken one counts too: what is wrong with it is told later. */
function looksLikePixels(value: object): boolean {
  return ['data', 'width', 'height', 'channels'].every((key) => key in value)
}

function hasToBuffer(value: object): value is BufferSource {
  return 'toBuffer' in value && typeof value.toBuffer === 'function'
}

function isSharp(value: BufferSource): value is SharpPipeline {
  return ['clone', 'toColourspace', 'raw', 'metadata'].every(
    (name) => typeof (value as unknown as Record<string, unknown>)[name] === 'function',
  )
}

/** Also Blobs of other implementations. */
function isBlob(value: object): value is Blob {
  return (
    'arrayBuffer' in value &&
    typeof value.arrayBuffer === 'function' &&
    'size' in value &&
    typeof value.size === 'number'
  )
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : describe(error)
}

/** Callers without types pass anything; the declared type of a source promises too much. */
function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (isObject(value)) {
    const { constructor } = value as { constructor?: { name?: unknown } }
    return typeof constructor?.name === 'string'
      ? `a value of type ${constructor.name}`
      : 'an object'
  }
  return typeof value === 'number' || typeof value === 'string'
    ? JSON.stringify(value)
    : `a ${typeof value}`
}

/** Paths and URLs as messages show them; a data URL can be megabytes long. */
function shorten(text: string): string {
  return text.length <= 200 ? text : `${text.slice(0, 120)}... (${text.length} characters)`
}
