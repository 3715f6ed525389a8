/** Where a video file comes from: every accepted kind of source, as a file that ffmpeg can open. */
import { mkdtemp, open, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { types } from 'node:util'
import { Qwen2VLError, VideoError } from '../errors.js'
import { isByteStream, type ByteStream } from './byte-stream.js'
import { streamMedia } from './fetch.js'
import { orAbort, untilAborted } from './frame-collector.js'
import { VIDEO_FETCH_TIMEOUT_MS, type MediaOptions } from './media-options.js'

/**
 * A video file: a path; an `http(s):`, `file:` or `data:` URL as string or `URL`; or its bytes in any
 * view or buffer, as a `Blob`, or as a Node or web stream of bytes.
 */
export type VideoFileSource =
  | string
  | URL
  | ArrayBufferView
  | ArrayBufferLike
  | Blob
  | NodeJS.ReadableStream
  | ReadableStream<Uint8Array>

/** Tells by its kind alone whether a value can be a video file. */
export function isVideoFileSource(value: unknown): value is VideoFileSource {
  if (typeof value === 'string' || value instanceof URL) return true
  if (ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value)) return true
  return typeof value === 'object' && value !== null && (isBlob(value) || isStreamOfBytes(value))
}

/**
 * Calls `use` with the path of the file. Bytes are written to a temporary file, which is gone when
 * the promise settles, however it ends.
 *
 * @throws VideoError `ERR_VIDEO_NOT_FOUND`, `ERR_VIDEO_READ`, `ERR_VIDEO_STREAM`, `ERR_VIDEO_SOURCE`, `ERR_VIDEO_EMPTY`,
 *   `ERR_VIDEO_TOO_LARGE`; FetchError for web addresses; the signal's reason.
 */
export async function withVideoFile<T>(
  source: VideoFileSource,
  media: MediaOptions,
  signal: AbortSignal | undefined,
  use: (path: string) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted()
  const found = openSource(source, media, signal)
  if ('path' in found) {
    await checkFile(found.path, media)
    return use(found.path)
  }
  const folder = await mkdtemp(join(tmpdir(), 'qwen2-vl-video-'))
  try {
    const path = join(folder, 'video')
    await writeFile(path, found.bytes, media.maxVideoBytes, signal)
    return await use(path)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

type ByteSource =
  | readonly Uint8Array[]
  | ReadableStream<Uint8Array>
  | NodeJS.ReadableStream
  | AsyncIterable<Uint8Array>
type Opened = { path: string } | { bytes: ByteSource }

function openSource(
  source: VideoFileSource,
  media: MediaOptions,
  signal: AbortSignal | undefined,
): Opened {
  if (source instanceof URL) return openString(source.href, media, signal)
  if (typeof source === 'string') return openString(source, media, signal)
  if (ArrayBuffer.isView(source)) {
    return { bytes: [new Uint8Array(source.buffer, source.byteOffset, source.byteLength)] }
  }
  if (types.isAnyArrayBuffer(source)) return { bytes: [new Uint8Array(source)] }
  if (isBlob(source)) return { bytes: source.stream() }
  return { bytes: source }
}

function openString(source: string, media: MediaOptions, signal: AbortSignal | undefined): Opened {
  const scheme = /^([a-z][a-z0-9+.-]+):/i.exec(source.slice(0, 64))?.[1]?.toLowerCase()
  switch (scheme) {
    case 'http':
    case 'https': {
      const limits = {
        ...media,
        expect: 'video' as const,
        maxBytes: media.maxVideoBytes,
        timeoutMs: media.fetchTimeoutMs ?? VIDEO_FETCH_TIMEOUT_MS,
      }
      return { bytes: streamMedia(source, limits, signal) }
    }
    case 'data': {
      const start = source.indexOf('base64,')
      if (start < 0) {
        throw new VideoError(
          'ERR_VIDEO_SOURCE',
          'its data URL is not base64. Write data:video/mp4;base64,... or pass the bytes.',
        )
      }
      return { bytes: [Buffer.from(source.slice(start + 'base64,'.length), 'base64')] }
    }
  }
  if (!media.allowFiles) {
    throw new VideoError(
      'ERR_VIDEO_SOURCE',
      `${shorten(source)} would be read from a file, which this model was told not to do ` +
        '(allowFiles: false). Pass the bytes or a data: URL.',
    )
  }
  return { path: resolve(scheme === 'file' ? filePath(source) : source) }
}

/** As the reference takes it where it is no proper URL: all behind `file://`. */
function filePath(url: string): string {
  try {
    return fileURLToPath(url)
  } catch {
    return url.replace(/^file:\/\//i, '')
  }
}

async function checkFile(path: string, { maxVideoBytes }: MediaOptions): Promise<void> {
  let info
  try {
    info = await stat(path)
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    const missing = code === 'ENOENT' || code === 'ENOTDIR'
    throw new VideoError(
      missing ? 'ERR_VIDEO_NOT_FOUND' : 'ERR_VIDEO_READ',
      missing
        ? `there is no file ${shorten(path)}. Check the path; relative ones start at the working directory.`
        : `${shorten(path)} cannot be read (${message}). Check the path and its permissions.`,
      { cause },
    )
  }
  if (!info.isFile()) {
    const what = info.isDirectory() ? 'a folder' : 'not a regular file'
    throw new VideoError('ERR_VIDEO_READ', `${shorten(path)} is ${what}. Name a video file.`)
  }
  if (info.size === 0) throw emptyError()
  if (info.size > maxVideoBytes) throw tooLarge(maxVideoBytes)
}

async function writeFile(
  path: string,
  bytes: ByteSource,
  limit: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  let size = 0
  await using file = await open(path, 'wx', 0o600)
  for await (const chunk of chunksOf(bytes, signal)) {
    if (!(chunk instanceof Uint8Array)) {
      throw new VideoError(
        'ERR_VIDEO_SOURCE',
        `its stream gives a ${typeof chunk} instead of bytes. Set no encoding, or pass the bytes.`,
      )
    }
    size += chunk.length
    if (size > limit) throw tooLarge(limit)
    await file.appendFile(chunk).catch((cause: unknown) => {
      throw new VideoError(
        'ERR_VIDEO_READ',
        `its bytes cannot be put into a temporary file (${reasonOf(cause)}). Make room in ` +
          `${tmpdir()}, or pass the path of a file.`,
        { cause },
      )
    })
  }
  if (size === 0) throw emptyError()
}

/** The pieces of a source, which is closed at the end, also when it gives nothing and the signal aborts. */
async function* chunksOf(
  bytes: ByteSource,
  signal: AbortSignal | undefined,
): AsyncGenerator<unknown, void, undefined> {
  try {
    if (Symbol.iterator in bytes) yield* bytes
    else if ('getReader' in bytes) yield* webChunks(bytes.getReader(), signal)
    else yield* untilAborted<unknown>(bytes, signal)
  } catch (cause) {
    signal?.throwIfAborted()
    if (Qwen2VLError.isInstance(cause)) throw cause
    throw new VideoError(
      'ERR_VIDEO_STREAM',
      `its stream failed (${reasonOf(cause)}). Give each use a stream of its own, or pass the bytes.`,
      { cause },
    )
  } finally {
    if (bytes instanceof Readable) bytes.destroy()
  }
}

async function* webChunks(
  reader: ReadableStreamDefaultReader<unknown>,
  signal: AbortSignal | undefined,
): AsyncGenerator<unknown, void, undefined> {
  try {
    for (;;) {
      const { done, value } = await orAbort(reader.read(), signal)
      if (done) return
      yield value
    }
  } finally {
    void reader.cancel().catch(() => {}) // a stream that failed is closed already
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : 'no reason given'
}

function emptyError(): VideoError {
  return new VideoError('ERR_VIDEO_EMPTY', 'it has no bytes. Send the whole file.')
}

function tooLarge(limit: number): VideoError {
  return new VideoError(
    'ERR_VIDEO_TOO_LARGE',
    `it has more than the ${limit.toLocaleString('en')} bytes that are read. Send a smaller video, ` +
      'or raise maxVideoBytes.',
    { details: { limit } },
  )
}

function isBlob(value: object): value is Blob {
  return 'arrayBuffer' in value && 'stream' in value && typeof value.stream === 'function'
}

/** Streams of Node and the web give bytes; one of objects, as any other iterable, gives frames. */
function isStreamOfBytes(value: object): value is Exclude<ByteStream, AsyncIterable<Uint8Array>> {
  if (!isByteStream(value)) return false
  if (value instanceof Readable) return !value.readableObjectMode
  return 'getReader' in value || 'pipe' in value
}

function shorten(text: string): string {
  return text.length <= 200 ? text : `${text.slice(0, 120)}... (${text.length} characters)`
}
