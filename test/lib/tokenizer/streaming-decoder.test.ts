import { describe, expect, it } from 'vitest'
import { StreamingDecoder } from '../../../lib/tokenizer/streaming-decoder.js'
import { completePrefixLength } from '../../../lib/tokenizer/utf8.js'
import { randomSource } from './random-text.js'

/** A decoder whose tokens are the bytes themselves, fed in tokens of the given bytes. */
function decode(...tokens: number[][]): string[] {
  const decoder = new StreamingDecoder((id) => Uint8Array.from(tokens[id]!))
  return [...tokens.map((_, id) => decoder.push(id)), decoder.flush()]
}

describe('streaming decoder', () => {
  it('holds a character back until its last byte', () => {
    expect(decode([0xf0, 0x9f], [0x98], [0x80])).toEqual(['', '', '😀', ''])
    expect(decode([0x61, 0xe4], [0xbd], [0xa0, 0x62, 0xc3], [0xa9])).toEqual([
      'a',
      '',
      '你b',
      'é',
      '',
    ])
  })

  it('shows U+FFFD as soon as bytes are proven invalid', () => {
    expect(decode([0xe4], [0x41])).toEqual(['', '\ufffdA', ''])
    expect(decode([0xe4, 0xbd], [0x41])).toEqual(['', '\ufffdA', ''])
    expect(decode([0xff], [0x80])).toEqual(['\ufffd', '\ufffd', ''])
  })

  it('shows one U+FFFD for each maximal invalid subpart', () => {
    // Overlong forms, surrogates and code points above U+10FFFF are invalid from the second byte on.
    expect(decode([0xe0], [0x80], [0x80])).toEqual(['', '\ufffd\ufffd', '\ufffd', ''])
    expect(decode([0xed, 0xa0, 0x80]).join('')).toBe('\ufffd'.repeat(3))
    expect(decode([0xf0, 0x80], [0x80]).join('')).toBe('\ufffd'.repeat(3))
    expect(decode([0xf4, 0x90]).join('')).toBe('\ufffd'.repeat(2))
    expect(decode([0xf1, 0x80, 0x80], [0x41]).join('')).toBe('\ufffdA')
    expect(decode([0xc0], [0xaf]).join('')).toBe('\ufffd'.repeat(2))
  })

  it('flushes a character that never ends as one U+FFFD, once', () => {
    const decoder = new StreamingDecoder(() => Uint8Array.of(0xf0, 0x9f, 0x98))
    expect(decoder.push(0)).toBe('')
    expect(decoder.flush()).toBe('\ufffd')
    expect(decoder.flush()).toBe('')
  })

  it('keeps a byte order mark', () => {
    expect(decode([0xef, 0xbb], [0xbf, 0x61])).toEqual(['', '\ufeffa', ''])
  })

  it('equals decoding at once, however the bytes are cut', () => {
    const random = randomSource(5)
    // Bytes that are likely to begin or to go on with a character.
    const likely = [
      0x41, 0x80, 0x9f, 0xa0, 0xbf, 0xc2, 0xdf, 0xe0, 0xe4, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5,
    ]
    for (let i = 0; i < 4000; i++) {
      const bytes = Array.from({ length: 1 + Math.floor(random() * 12) }, () =>
        random() < 0.9 ? likely[Math.floor(random() * likely.length)]! : Math.floor(random() * 256),
      )
      const tokens: number[][] = [[]]
      for (const byte of bytes) {
        if (random() < 0.6) tokens.push([])
        tokens.at(-1)!.push(byte)
      }
      const whole = new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(bytes))
      expect(decode(...tokens).join(''), bytes.join()).toBe(whole)
    }
  })
})

describe('completePrefixLength', () => {
  it('leaves out a last character that is begun and valid so far', () => {
    expect(completePrefixLength(Uint8Array.of())).toBe(0)
    expect(completePrefixLength(Uint8Array.of(0x61))).toBe(1)
    expect(completePrefixLength(Uint8Array.of(0x61, 0xc3))).toBe(1)
    expect(completePrefixLength(Uint8Array.of(0x61, 0xc3, 0xa9))).toBe(3)
    expect(completePrefixLength(Uint8Array.of(0x80, 0x80, 0x80, 0x80))).toBe(4)
    expect(completePrefixLength(Uint8Array.of(0xf0, 0x9f, 0x98))).toBe(0)
  })
})
