/** Undoes the content encodings of an answer. */
import type { IncomingMessage } from 'node:http'
import { pipeline, Readable, type Duplex } from 'node:stream'
import { createBrotliDecompress, createGunzip, createInflate, createInflateRaw } from 'node:zlib'
import { fetchError } from './fetch-error.js'

/**
 * The body without its encoding. `tooLarge` makes the error for more than `maxBytes` bytes as sent,
 * which can be many although little comes out of them.
 */
export async function* decodedBody(
  response: IncomingMessage,
  url: URL,
  tooLarge: () => Error,
  maxBytes: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  const encoding = response.headers['content-encoding']?.trim().toLowerCase() ?? ''
  if (encoding === '' || encoding === 'identity') {
    yield* response as AsyncIterable<Uint8Array>
    return
  }
  const start = await firstChunk(response)
  if (start === undefined) return
  const decoder = createDecoder(encoding, start)
  if (decoder === undefined) {
    const shown = encoding.slice(0, 60)
    const what = `is sent in the encoding '${shown}', which is not understood. Pass the bytes.`
    throw fetchError('ERR_FETCH_CONTENT', url, what)
  }
  const source = Readable.from(counted(start, response, maxBytes, tooLarge), { objectMode: false })
  // A failure of either destroys both, so that the decoder tells it.
  pipeline(source, decoder, () => {})
  yield* decoder as AsyncIterable<Uint8Array>
}

function createDecoder(name: string, start: Uint8Array): Duplex | undefined {
  switch (name) {
    case 'gzip':
    case 'x-gzip':
      return createGunzip()
    case 'br':
      return createBrotliDecompress()
    case 'deflate':
      // Meant is zlib's format, but some servers leave its header out. Its method is always 8.
      return ((start[0] ?? 0) & 0x0f) === 8 ? createInflate() : createInflateRaw()
    default:
      return undefined
  }
}

async function firstChunk(response: Readable): Promise<Uint8Array | undefined> {
  for (;;) {
    const chunk = response.read() as Uint8Array | null
    if (chunk !== null) return chunk
    if (response.readableEnded) return undefined
    await new Promise<void>((resolve, reject) => {
      const settle = (error?: Error) => {
        response.off('readable', settle).off('end', settle).off('error', settle)
        if (error === undefined) resolve()
        else reject(error)
      }
      response.once('readable', settle).once('end', settle).once('error', settle)
    })
  }
}

async function* counted(
  start: Uint8Array,
  rest: Readable,
  maxBytes: number,
  tooLarge: () => Error,
): AsyncGenerator<Uint8Array, void, undefined> {
  let size = start.length
  if (size > maxBytes) throw tooLarge()
  yield start
  for await (const chunk of rest as AsyncIterable<Uint8Array>) {
    size += chunk.length
    if (size > maxBytes) throw tooLarge()
    yield chunk
  }
}
