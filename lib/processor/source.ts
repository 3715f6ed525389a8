/** Where an image comes from: every accepted kind of source, turned into encoded bytes or raw pixels. */
import { open, stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { types } from 'node:util'
import { ImageError, InvalidArgumentError } from '../errors.js'

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
 * An image: a path; a `file:` or `data:` URL as string or `URL` (also `data:image;base64,...`); the
 * bytes of an image file, which must not be changed meanwhile; or {@link RawPixels}.
 */
export type ImageSource = string | URL | Uint8Array | ArrayBuffer | RawPixels

/** A source that has been read, but not decoded. */
export type LoadedSource =
  { kind: 'encoded'; bytes: Uint8Array } | { kind: 'pixels'; pixels: RawPixels }

/** Largest file that is read. Far more than any picture within the pixel limit needs. */
const MAX_FILE_BYTES = 1 << 30

/**
 * Reads a source. Strings are told apart in the reference's order: `http(s):`, `file:`, `data:`,
 * and anything else is a path.
 *
 * @throws ImageError `ERR_IMAGE_NOT_FOUND`, `ERR_IMAGE_READ`, `ERR_IMAGE_EMPTY`, `ERR_IMAGE_SOURCE`
 *   or `ERR_IMAGE_PIXELS`; InvalidArgumentError for what is no source at all.
 */
export async function loadSource(source: ImageSource): Promise<LoadedSource> {
  if (typeof source === 'string') return encoded(await loadString(source))
  if (source instanceof URL) return encoded(await loadString(source.href))
  if (types.isUint8Array(source)) return encoded(source)
  if (types.isAnyArrayBuffer(source)) return encoded(new Uint8Array(source))
  if (isObject(source) && 'data' in source) {
    checkRawPixels(source)
    return { kind: 'pixels', pixels: source }
  }
  throw new InvalidArgumentError(
    `An image is ${describe(source)}; expected a path, a file: or data: URL, the bytes of an image ` +
      'file (Buffer, Uint8Array, ArrayBuffer) or raw pixels { data, width, height, channels }.',
  )
}

function encoded(bytes: Uint8Array): LoadedSource {
  if (bytes.length > 0) return { kind: 'encoded', bytes }
  throw new ImageError('ERR_IMAGE_EMPTY', 'it has no bytes. Send the whole file.')
}

async function loadString(source: string): Promise<Uint8Array> {
  const scheme = /^([a-z][a-z0-9+.-]+):/i.exec(source.slice(0, 64))?.[1]?.toLowerCase()
  switch (scheme) {
    case 'http':
    case 'https':
      throw new InvalidArgumentError(
        `The image ${shorten(source)} is a web address; URLs are not fetched yet. Fetch it and ` +
          'pass the bytes.',
        { details: { url: source } },
      )
    case 'file':
      return readFirst(filePaths(source), source)
    case 'data':
      return decodeDataUrl(source)
    default:
      return readFirst([source], source)
  }
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
async function readFirst(paths: string[], source: string): Promise<Uint8Array> {
  for (const path of paths) {
    const bytes = await readImageFile(path)
    if (bytes !== undefined) return bytes
  }
  throw notFound(paths[0] ?? source)
}

/** undefined when there is nothing at `path`. */
async function readImageFile(path: string): Promise<Uint8Array | undefined> {
  try {
    // Asked first, because opening a pipe would wait for a writer.
    const info = await stat(path)
    if (!info.isFile()) {
      throw new ImageError(
        'ERR_IMAGE_READ',
        `${shorten(path)} is ${info.isDirectory() ? 'a folder' : 'not a regular file'}. Name a picture file.`,
      )
    }
    if (info.size > MAX_FILE_BYTES) {
      throw new ImageError(
        'ERR_IMAGE_TOO_LARGE',
        `${shorten(path)} is ${info.size.toLocaleString('en')} bytes; at most ` +
          `${MAX_FILE_BYTES.toLocaleString('en')} are read. Send a smaller picture.`,
        { details: { bytes: info.size, limit: MAX_FILE_BYTES } },
      )
    }
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
function decodeDataUrl(url: string): Uint8Array {
  const marker = 'base64,'
  const start = url.indexOf(marker)
  if (start < 0) {
    throw new ImageError(
      'ERR_IMAGE_SOURCE',
      `the data URL ${shorten(url)} is not base64. Write data:image/png;base64,... or pass the bytes.`,
    )
  }
  let text = url.slice(start + marker.length)
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
