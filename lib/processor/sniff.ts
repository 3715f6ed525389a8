/** What bytes are, by how they begin. Headers and file names are not believed. */

/** Enough of the beginning to tell. */
export const SNIFFED_BYTES = 1024

/** The kind that matters here, and a name for messages. */
export interface Sniffed {
  kind: 'image' | 'video' | 'text' | 'other' | 'unknown'
  name: string
}

type Signature = readonly [offset: number, bytes: string, kind: Sniffed['kind'], name: string]

const signatures: readonly Signature[] = [
  [0, '\xff\xd8\xff', 'image', 'a JPEG image'],
  [0, '\x89PNG\r\n\x1a\n', 'image', 'a PNG image'],
  [0, 'GIF8', 'image', 'a GIF image'],
  [0, 'II*\0', 'image', 'a TIFF image'],
  [0, 'MM\0*', 'image', 'a TIFF image'],
  [8, 'WEBP', 'image', 'a WebP image'],
  [8, 'AVI ', 'video', 'an AVI video'],
  [0, '\x1aE\xdf\xa3', 'video', 'a Matroska or WebM video'],
  [0, 'FLV\x01', 'video', 'a Flash video'],
  [0, '\0\0\x01\xba', 'video', 'an MPEG video'],
  [0, '%PDF-', 'other', 'a PDF document'],
  [0, 'PK\x03\x04', 'other', 'a ZIP archive'],
  [0, '\x1f\x8b', 'other', 'a gzip archive'],
  [0, 'ID3', 'other', 'an audio file'],
]

/** Brands of the ISO container that are pictures; all others are videos. */
const pictureBrands = [
  'avif',
  'avis',
  'mif1',
  'msf1',
  'heic',
  'heix',
  'heim',
  'heis',
  'hevc',
  'hevx',
]

/** Looks at the first bytes, of which {@link SNIFFED_BYTES} are enough. */
export function sniff(bytes: Uint8Array): Sniffed {
  if (bytes.length === 0) return { kind: 'other', name: 'nothing' }
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, SNIFFED_BYTES))
  const text = head.toString('latin1')
  for (const [offset, start, kind, name] of signatures) {
    if (!text.startsWith(start, offset)) continue
    if (offset === 8 && !text.startsWith('RIFF')) continue
    return { kind, name }
  }
  if (text.startsWith('ftyp', 4)) {
    return pictureBrands.includes(text.slice(8, 12))
      ? { kind: 'image', name: 'an AVIF or HEIF image' }
      : { kind: 'video', name: 'an MP4 or QuickTime video' }
  }
  return sniffText(head) ?? { kind: 'unknown', name: 'something unknown' }
}

function sniffText(head: Buffer): Sniffed | undefined {
  const text = head
    .toString('utf8')
    .replace(/^\uFEFF/, '')
    .trimStart()
  const lower = text.toLowerCase()
  if (/^<(!doctype\s+html|html|head|body|script|title)\b/.test(lower)) {
    return { kind: 'text', name: 'an HTML page' }
  }
  if (lower.startsWith('<')) {
    if (/<svg[\s>:]/.test(lower) || /<[a-z]+:svg[\s>]/.test(lower)) {
      return { kind: 'image', name: 'an SVG image' }
    }
    if (lower.includes('<html')) return { kind: 'text', name: 'an HTML page' }
    return { kind: 'text', name: 'an XML document' }
  }
  if (/^[[{]/.test(text) && isText(head)) return { kind: 'text', name: 'JSON' }
  if (isText(head)) return { kind: 'text', name: 'plain text' }
  return undefined
}

/** No control characters but those of text, which no picture or video does without. */
function isText(head: Buffer): boolean {
  return head.every((byte) => byte >= 0x20 || byte === 9 || byte === 10 || byte === 13)
}
