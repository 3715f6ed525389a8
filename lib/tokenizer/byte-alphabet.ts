/** The printable characters that stand for the 256 bytes in byte-level BPE vocabularies. */

const characters: string[] = []
const bytesByUnit = new Int16Array(0x144).fill(-1)

for (let byte = 0, shifted = 0; byte < 256; byte++) {
  const isPrintable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
  const unit = isPrintable ? byte : 0x100 + shifted++
  characters.push(String.fromCharCode(unit))
  bytesByUnit[unit] = byte
}

/** The character of each byte, [256]. */
export const byteCharacters: readonly string[] = characters

/**
 * Writes the bytes a vocabulary's token stands for to `out` and returns their number, or -1 if the
 * token has a character that stands for no byte.
 */
export function tokenToBytes(token: string, out: Uint8Array): number {
  for (let i = 0; i < token.length; i++) {
    const byte = bytesByUnit[token.charCodeAt(i)] ?? -1
    if (byte < 0) return -1
    out[i] = byte
  }
  return token.length
}
