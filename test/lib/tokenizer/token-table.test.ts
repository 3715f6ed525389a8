import { describe, expect, it } from 'vitest'
import { bytesToToken, tokenToBytes } from '../../../lib/tokenizer/byte-alphabet.js'
import { TokenTable } from '../../../lib/tokenizer/token-table.js'

describe('byte alphabet', () => {
  it.each([
    [0x00, 0x100],
    [0x0a, 0x10a],
    [0x20, 0x120],
    [0x21, 0x21],
    [0x7e, 0x7e],
    [0x7f, 0x121],
    [0xa0, 0x142],
    [0xa1, 0xa1],
    [0xad, 0x143],
    [0xae, 0xae],
    [0xff, 0xff],
  ])('writes byte %i as U+%i', (byte, unit) => {
    expect(bytesToToken(Uint8Array.of(byte))).toBe(String.fromCharCode(unit))
  })

  it('is a bijection', () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i)
    const back = new Uint8Array(256)
    expect(tokenToBytes(bytesToToken(bytes), back, 0)).toBe(256)
    expect(back).toEqual(bytes)
    expect(new Set(bytesToToken(bytes)).size).toBe(256)
  })

  it('knows no byte for other characters', () => {
    for (const token of [' ', '\u00a0', '\u0144', '你', '😀']) {
      expect(tokenToBytes(token, new Uint8Array(8), 0)).toBe(-1)
    }
  })
})

describe('token table', () => {
  it('finds 20,000 tokens by bytes, text and id, in whatever order they came', () => {
    const table = new TokenTable()
    const tokens = Array.from(
      { length: 20_000 },
      (_, i) => `Ġ${i.toString(36)}${'x'.repeat(i % 30)}`,
    )
    for (let i = 0; i < tokens.length; i++) {
      const id = (i * 7919) % tokens.length
      expect(table.add(tokens[id]!, id)).toBe(true)
    }
    expect(table.size).toBe(20_000)
    for (const [id, token] of tokens.entries()) {
      const bytes = Buffer.from(` ${token.slice(1)}`)
      const found = [
        table.find(bytes, 0, bytes.length),
        table.tokenToId(token),
        table.idToToken(id),
      ]
      if (found[0] !== id || found[1] !== id || found[2] !== token)
        expect(found).toEqual([id, id, token])
    }
    expect(table.tokenToId('Ġnot there')).toBeUndefined()
  })

  it('has no token where none was added', () => {
    const table = new TokenTable()
    table.add('a', 5000)
    expect(table.size).toBe(5001)
    for (const id of [0, 4999, 5001, 1e9, -1, 0.5, NaN]) {
      expect(table.has(id)).toBe(false)
      expect(table.idToToken(id)).toBeUndefined()
      expect(table.bytesOf(id)).toHaveLength(0)
    }
  })

  it('refuses a token that it has', () => {
    const table = new TokenTable()
    table.add('ab', 1)
    table.add('你', 2)
    expect(table.add('ab', 3)).toBe(false)
    expect(table.add('你', 3)).toBe(false)
    expect(table.has(3)).toBe(false)
  })

  it('keeps tokens outside the byte alphabet apart from those of the same bytes', () => {
    const table = new TokenTable()
    const utf8 = Buffer.from('你')
    expect(table.add('你', 0)).toBe(true)
    expect(table.add(bytesToToken(utf8), 1)).toBe(true)
    expect(table.find(utf8, 0, 3)).toBe(1)
    expect(table.tokenToId('你')).toBe(0)
    expect(table.idToToken(0)).toBe('你')
    expect(Buffer.from(table.bytesOf(0))).toEqual(utf8)
  })

  it('takes added tokens by their text', () => {
    const table = new TokenTable()
    table.add('a', 0)
    table.addText('<é> ', 1)
    expect(table.idToToken(1)).toBe('<é> ')
    expect(table.tokenToId('<é> ')).toBe(1)
    expect(Buffer.from(table.bytesOf(1)).toString()).toBe('<é> ')
    expect(table.find(Buffer.from('<é> '), 0, 5)).toBe(-1)
  })
})
