/** Brings content parts of other clients to the package's own spelling, before they are checked. */
import { types } from 'node:util'
import { invalid, isRecord, nameOf } from './checks.js'

type Part = Record<string, unknown>

/** `{ type: 'video_url', video_url }` as `{ type: 'video', video }`; options may be in either object. */
export function videoUrlToNative(part: Part, path: string): Part {
  const { video_url: value, ...options } = part
  const urlPath = `${path}.video_url`
  if ('video' in options) {
    throw invalid(path, `${path} has both video and video_url. Give one.`)
  }
  if (!isRecord(value) || value instanceof URL) {
    return { ...options, type: 'video', video: urlOf(value, urlPath) }
  }
  const { url, ...inner } = value
  for (const name of Object.keys(inner)) {
    if (options[name] !== undefined && inner[name] !== undefined) {
      throw invalid(`${urlPath}.${name}`, `${urlPath}.${name} is given twice.`)
    }
  }
  return { ...options, ...inner, type: 'video', video: urlOf(url, `${urlPath}.url`) }
}

function urlOf(value: unknown, path: string): string | URL {
  if ((typeof value === 'string' && value !== '') || value instanceof URL) return value
  throw invalid(path, `${path} must be the video's address, not ${nameOf(value)}.`)
}

/** `{ type: 'file', mediaType, data }` as an image or video. */
export function filePartToNative(part: Part, path: string): Part {
  const { mediaType, mimeType, data, filename, ...options } = part
  if (mediaType !== undefined && mimeType !== undefined) {
    throw invalid(`${path}.mimeType`, `${path} has both mediaType and mimeType. Give one.`)
  }
  if (filename !== undefined && typeof filename !== 'string') {
    throw invalid(`${path}.filename`, `${path}.filename must be a string, not ${nameOf(filename)}.`)
  }
  for (const key of ['image', 'image_url', 'video', 'video_url', 'text']) {
    if (options[key] === undefined) continue
    throw invalid(`${path}.${key}`, `${path}.${key}: a file has its content in data. Give one.`)
  }
  const source = fileData(data, `${path}.data`)
  switch (mediaKind(mediaType ?? mimeType, `${path}.mediaType`)) {
    case 'image':
      return { ...options, type: 'image', image: source }
    case 'video':
      return { ...options, type: 'video', video: source }
  }
}

function mediaKind(mediaType: unknown, path: string): 'image' | 'video' {
  const kind =
    typeof mediaType === 'string' ? /^(image|video)(\/|$)/i.exec(mediaType)?.[1] : undefined
  if (kind === undefined) {
    const found = typeof mediaType === 'string' ? `'${mediaType}'` : nameOf(mediaType)
    throw invalid(
      path,
      `${path} is ${found}. Files of the types image/… and video/… are understood.`,
    )
  }
  return kind.toLowerCase() as 'image' | 'video'
}

/** A string without a scheme is base64: this form knows no paths. */
function fileData(data: unknown, path: string): string | URL | Uint8Array | ArrayBuffer {
  if (data instanceof URL || types.isUint8Array(data) || data instanceof ArrayBuffer) return data
  if (typeof data !== 'string' || data === '') {
    throw invalid(path, `${path} must be bytes, a URL or base64, not ${nameOf(data)}.`)
  }
  if (/^[a-z][a-z0-9+.-]*:/i.test(data.slice(0, 64))) return data
  if (/^[A-Za-z0-9+/_\s-]+=*\s*$/.test(data)) return Buffer.from(data, 'base64')
  throw invalid(
    path,
    `${path} is neither a URL nor base64. To name a file by its path, write { type: 'image', image: path }.`,
  )
}
