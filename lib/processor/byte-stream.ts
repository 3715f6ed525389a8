/** Reads the bytes of an image from a stream, within a limit. */
import { Readable } from 'node:stream'
import { types } from 'node:util'
import { ImageError } from '../errors.js'

/** A Node stream, a web stream, or any other async iterable of bytes. Each can be read once. */
export type ByteStream =
  NodeJS.ReadableStream | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>

/** Streams that were read here. An iterable that starts anew each time is not among them. */
const readBefore = new WeakSet()

/** Tells a stream by what it can do. */
export function isByteStream(value: object): value is ByteStream {
  return (
    isWebStream(value) ||
    (Symbol.asyncIterator in value && typeof value[Symbol.asyncIterator] === 'function')
  )
}

/**
 * Reads a stream to its end, and closes it if the limit or the signal ends it earlier.
 *
 * @throws ImageError `ERR_IMAGE_STREAM` for a stream that was read before, fails, or gives no bytes,
 *   `ERR_IMAGE_TOO_LARGE` beyond `maxBytes`; the signal's reason.
 */
export async function readByteStream(
  stream: ByteStream,
  maxBytes: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const reader = openReader(stream)
  const chunks: Uint8Array[] = []
  let size = 0
  try {
    for (;;) {
      const { done, value } = await untilAborted(reader.next(), signal)
      if (done) break
      const chunk = bytesOfChunk(value)
      size += chunk.length
      if (size > maxBytes) throw tooManyBytes('it', undefined, maxBytes)
      chunks.push(chunk)
    }
  } catch (error) {
    reader.cancel()
    if (signal?.aborted) throw signal.reason
    if (error instanceof ImageError) throw error
    throw streamError(
      `its stream failed (${error instanceof Error ? error.message : 'no reason given'})`,
      error,
    )
  }
  return Buffer.concat(chunks, size)
}

/** The error for more encoded bytes than are accepted; `bytes` where it is known how many. */
export function tooManyBytes(name: string, bytes: number | undefined, limit: number): ImageError {
  const found = bytes === undefined ? 'has more' : `is ${bytes.toLocaleString('en')} bytes`
  const allowed = limit.toLocaleString('en')
  return new ImageError(
    'ERR_IMAGE_TOO_LARGE',
    bytes === undefined
      ? `${name} ${found} than the ${allowed} bytes that are read. Send a smaller picture, or raise maxImageBytes.`
      : `${name} ${found}; at most ${allowed} are read. Send a smaller picture, or raise maxImageBytes.`,
    { details: { ...(bytes !== undefined && { bytes }), limit } },
  )
}

/** One way to read all kinds. `cancel` closes the stream even while a read is pending. */
interface ChunkReader {
  next(): Promise<{ done?: boolean | undefined; value?: unknown }>
  cancel(): void
}

function openReader(stream: ByteStream): ChunkReader {
  const isNode = stream instanceof Readable
  const isWeb = !isNode && isWebStream(stream)
  const used =
    readBefore.has(stream) ||
    (isNode && (stream.readableDidRead || stream.destroyed)) ||
    (isWeb && stream.locked)
  if (used) {
    throw streamError('its stream has been read before; a stream can be read once')
  }
  if (isWeb) {
    readBefore.add(stream)
    const reader = stream.getReader()
    return {
      next: () => reader.read(),
      cancel: () => void reader.cancel().catch(() => {}), // a stream that failed is closed already
    }
  }
  const iterator = (stream as AsyncIterable<unknown>)[Symbol.asyncIterator]()
  // Generators are their own iterators; an object that makes one for each reader can be read again.
  if (isNode || (iterator as unknown) === stream) readBefore.add(stream)
  return {
    next: () => Promise.resolve(iterator.next()),
    cancel: () => {
      if (isNode) stream.destroy()
      // Does not wait: a generator ends after the step that it is in.
      else void Promise.resolve(iterator.return?.()).catch(() => {})
    },
  }
}

function isWebStream(value: object): value is ReadableStream<Uint8Array> {
  return 'getReader' in value && typeof value.getReader === 'function'
}

function bytesOfChunk(value: unknown): Uint8Array {
  if (ArrayBuffer.isView(value)) {
    return new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
  }
  if (types.isAnyArrayBuffer(value)) return new Uint8Array(value)
  throw streamError(
    `its stream gives a ${typeof value} instead of bytes` +
      (typeof value === 'string' ? '; do not set an encoding' : ''),
  )
}

function streamError(what: string, cause?: unknown): ImageError {
  return new ImageError(
    'ERR_IMAGE_STREAM',
    `${what}. Give each use a stream of its own, or read it once and pass the bytes.`,
    cause === undefined ? {} : { cause },
  )
}

/** Settles as `work` does, or rejects as soon as the signal aborts. */
function untilAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
    if (signal.aborted) onAbort()
  })
}
