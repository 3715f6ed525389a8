/** What the tokenizer needs to know about UTF-8. */

/**
 * How many leading bytes can be decoded for good: all, but for a last character that is begun,
 * valid so far and not complete.
 */
export function completePrefixLength(bytes: Uint8Array): number {
  // A lead byte further back than 3 bytes is complete, or broken by what follows it.
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const start = bytes.length - back
    const lead = bytes[start] ?? 0
    if ((lead & 0xc0) === 0x80) continue
    return isBegun(bytes, start) ? start : bytes.length
  }
  return bytes.length
}

/** Whether the bytes from `start` to the end are a proper prefix of one well-formed character. */
function isBegun(bytes: Uint8Array, start: number): boolean {
  const lead = bytes[start] ?? 0
  const length = bytes.length - start
  const needed = lead >= 0xc2 && lead < 0xe0 ? 2 : lead >= 0xe0 && lead < 0xf0 ? 3 : 4
  if (lead < 0xc2 || lead > 0xf4 || length >= needed) return false
  if (length === 1) return true
  // The second byte rules out overlong forms, surrogates and code points above U+10FFFF.
  const second = bytes[start + 1] ?? 0
  if (lead === 0xe0) return second >= 0xa0
  if (lead === 0xed) return second < 0xa0
  if (lead === 0xf0) return second >= 0x90
  if (lead === 0xf4) return second < 0x90
  return true
}

/**
 * Writes `units[start, end)`, which has no lone surrogates, as UTF-8 to `out` and returns the number
 * of bytes. `out` needs room for 3 bytes a unit.
 */
export function writeUtf8(units: Uint16Array, start: number, end: number, out: Uint8Array): number {
  let length = 0
  for (let i = start; i < end; i++) {
    const unit = units[i] as number
    if (unit < 0x80) {
      out[length++] = unit
    } else if (unit < 0x800) {
      out[length++] = 0xc0 | (unit >> 6)
      out[length++] = 0x80 | (unit & 0x3f)
    } else if ((unit & 0xfc00) !== 0xd800) {
      out[length++] = 0xe0 | (unit >> 12)
      out[length++] = 0x80 | ((unit >> 6) & 0x3f)
      out[length++] = 0x80 | (unit & 0x3f)
    } else {
      const low = units[++i] as number
      const codePoint = 0x10000 + ((unit & 0x3ff) << 10) + (low & 0x3ff)
      out[length++] = 0xf0 | (codePoint >> 18)
      out[length++] = 0x80 | ((codePoint >> 12) & 0x3f)
      out[length++] = 0x80 | ((codePoint >> 6) & 0x3f)
      out[length++] = 0x80 | (codePoint & 0x3f)
    }
  }
  return length
}
