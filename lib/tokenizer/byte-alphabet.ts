/** The printable characters that stand for the 256 bytes in byte-level BPE vocabularies. */

const units = new Uint16Array(256)
const bytesByUnit = new Int16Array(0x144).fill(-1)

for (let byte = 0, shifted = 0; byte < 256; byte++) {
  const isPrintable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
  const unit = isPrintable ? byte : 0x100 + shifted++
  units[byte] = unit
  bytesByUnit[unit] = byte
}

/**
 * Writes the bytes that a token of a vocabulary stands for to `out`, from `at` on, and returns their
 * number, or -1 if the token has a character that stands for no byte.
 */
export function tokenToBytes(token: string, out: Uint8Array, at: number): number {
  for (let i = 0; i < token.length; i++) {
    const byte = bytesByUnit[token.charCodeAt(i)] ?? -1
    if (byte < 0) return -1
    out[at + i] = byte
  }
  return token.length
}

/** The token of a vocabulary that stands for some bytes. */
export function bytesToToken(bytes: Uint8Array): string {
  let token = ''
  for (const byte of bytes) token += String.fromCharCode(units[byte] as number)
  return token
}
