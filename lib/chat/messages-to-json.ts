/** Messages as JSON can carry them, so that a conversation can be stored and taken up again. */
import { types } from 'node:util'
import { invalid, nameOf } from './checks.js'
import type { ChatMessage } from './messages.js'

/**
 * A copy of the messages that survives JSON: URL objects become strings, bytes become `data:` URLs. Paths
 * stay paths.
 *
 * @throws InvalidArgumentError for what has no text form: streams, Blobs, raw pixels, prepared images.
 */
export function messagesToJson(messages: readonly ChatMessage[]): ChatMessage[] {
  return messages.map((message, i) => toJson(message, `messages[${i}]`) as ChatMessage)
}

function toJson(value: unknown, path: string): unknown {
  if (typeof value === 'number' || typeof value === 'string' || typeof value === 'boolean') {
    return value
  }
  if (value === undefined || value === null) return value
  if (value instanceof URL) return value.href
  if (ArrayBuffer.isView(value)) {
    return toDataUrl(new Uint8Array(value.buffer, value.byteOffset, value.byteLength), path)
  }
  if (types.isAnyArrayBuffer(value)) return toDataUrl(new Uint8Array(value), path)
  if (Array.isArray(value)) return value.map((entry, i) => toJson(entry, `${path}[${i}]`))
  if (!isPlain(value) || ('data' in value && 'channels' in value)) {
    throw invalid(
      path,
      `${path} is ${isPlain(value) ? 'raw pixels' : nameOf(value)}, which JSON cannot carry. Give the ` +
        'bytes of an image file, a path or a URL, or take the message out with rewind().',
    )
  }
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => [key, toJson(entry, `${path}.${key}`)]),
  )
}

/** The media type says only for which reader the URL is: what is inside, the bytes tell. */
function toDataUrl(bytes: Uint8Array, path: string): string {
  const kind = /\.video(_url)?(\.url)?$/.test(path) ? 'video' : 'image'
  const base64 = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
  return `data:${kind};base64,${base64}`
}

function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
