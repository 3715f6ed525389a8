import { beforeAll, describe, expect, it } from 'vitest'
import { Tokenizer } from '../../../lib/tokenizer/tokenizer.js'
import { windowsOf } from '../../../lib/tokenizer/windows.js'
import { randomSource, randomText } from './random-text.js'
import { tinyFile } from './tiny-checkpoint.js'

let tokenizer: Tokenizer

beforeAll(async () => {
  tokenizer = await Tokenizer.load({ tokenizerJson: tinyFile('tokenizer.json') })
})

function windows(
  text: string,
  size: number,
  isInsideToken: (cut: number) => boolean = () => false,
): string[] {
  return [...windowsOf(text, size, isInsideToken)].filter((window) => window !== undefined)
}

describe('windows of a long text', () => {
  it('encode apart to what the text encodes to', () => {
    const random = randomSource(3)
    let cuts = 0
    for (let i = 0; i < 2000; i++) {
      const text = randomText(random, 30 + Math.floor(random() * 100), [])
      const parts = windows(text, 4 + (i % 20))
      cuts += parts.length - 1
      expect(parts.join('')).toBe(text)
      const plain = { addedTokens: false }
      expect(parts.flatMap((part) => tokenizer.encode(part, plain))).toEqual(
        tokenizer.encode(text, plain),
      )
    }
    expect(cuts).toBeGreaterThan(2000)
  })

  it('are not cut inside of what an added token covers', () => {
    const text = 'one two three four'
    const isInsideToken = (cut: number) => cut > 3 && cut < 13
    expect(windows(text, 5)).toEqual(['one', ' two', ' three', ' four'])
    expect(windows(text, 5, isInsideToken)).toEqual(['one', ' two three', ' four'])
  })

  it('rest on this: only marks and letters compose with what is before them', () => {
    for (let codePoint = 0; codePoint < 0x30000; codePoint++) {
      if (codePoint >= 0xd800 && codePoint < 0xe000) continue
      const [, ...rest] = String.fromCodePoint(codePoint).normalize('NFD')
      for (const part of rest) expect(part).toMatch(/[\p{M}\p{L}]/u)
    }
  })
})
