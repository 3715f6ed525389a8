/**
 * The few facts about an encoded picture that a decoder does not pass on, read from its header. The
 * reference decides by how a picture is stored whether its transparency counts; decoders give every
 * transparent picture as four channels.
 */

/** How a file is stored, as far as decoding depends on it. */
export type Container =
  | { format: 'png'; bitDepth: number; colourType: number }
  | { format: 'gif'; transparencyFlag: number | undefined }
  | { format: 'tiff' }
  | { format: 'other' }

/** Colour types of a PNG header that carry an alpha channel. */
export const PNG_GREY_ALPHA = 4
export const PNG_RGBA = 6

const PNG_SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]

/** Looks at the first bytes; reads no further than the header of the first frame. */
export function readContainer(bytes: Uint8Array): Container {
  if (startsWith(bytes, PNG_SIGNATURE)) {
    return { format: 'png', bitDepth: at(bytes, 24), colourType: at(bytes, 25) }
  }
  if (startsWith(bytes, [0x47, 0x49, 0x46, 0x38])) {
    return { format: 'gif', transparencyFlag: findTransparencyFlag(bytes) }
  }
  const isTiff =
    startsWith(bytes, [0x49, 0x49, 0x2a, 0]) || startsWith(bytes, [0x4d, 0x4d, 0, 0x2a])
  return { format: isTiff ? 'tiff' : 'other' }
}

/**
 * Offset of the packed byte whose lowest bit says that the first frame of a GIF has a transparent
 * colour; undefined when it has none.
 */
function findTransparencyFlag(bytes: Uint8Array): number | undefined {
  const packed = at(bytes, 10)
  // Signature and screen descriptor, then perhaps a palette of 3 * 2^(n + 1) bytes.
  let offset = 13 + ((packed & 0x80) === 0 ? 0 : 3 << ((packed & 7) + 1))
  let flag: number | undefined
  while (at(bytes, offset) === 0x21) {
    if (at(bytes, offset + 1) === 0xf9) {
      flag = (at(bytes, offset + 3) & 1) === 0 ? undefined : offset + 3
    }
    offset += 2
    for (let size = at(bytes, offset); size !== 0; size = at(bytes, offset)) offset += size + 1
    offset += 1
  }
  return at(bytes, offset) === 0x2c ? flag : undefined
}

function startsWith(bytes: Uint8Array, start: readonly number[]): boolean {
  return start.every((byte, i) => bytes[i] === byte)
}

/** The byte there, 0 beyond the end. */
function at(bytes: Uint8Array, offset: number): number {
  return bytes[offset] ?? 0
}
