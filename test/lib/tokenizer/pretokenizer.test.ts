import { describe, expect, it } from 'vitest'
import {
  astralClass,
  classOf,
  LETTER,
  NUMBER,
  OTHER,
} from '../../../lib/tokenizer/character-class.js'
import { PreTokenizer } from '../../../lib/tokenizer/pretokenizer.js'
import { randomSource, randomText } from './random-text.js'

const preTokenizer = new PreTokenizer()

function words(text: string): string[] {
  const units = Uint16Array.from({ length: text.length }, (_, i) => text.charCodeAt(i))
  const found: string[] = []
  for (let start = 0; start < text.length;) {
    const end = preTokenizer.wordEnd(units, start, text.length)
    found.push(text.slice(start, end))
    start = end
  }
  return found
}

// The pattern of the reference in JavaScript's words: white space written out, cases too.
const space = '\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000'
const pattern = new RegExp(
  "'(?:[sSſ]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])" +
    '|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+' +
    '|\\p{N}' +
    `| ?[^${space}\\p{L}\\p{N}]+[\\r\\n]*` +
    `|[${space}]*[\\r\\n]+` +
    `|[${space}]+(?![^${space}])` +
    `|[${space}]+`,
  'gu',
)

describe('words', () => {
  it.each([
    ["x'ſy", ['x', "'ſ", 'y']],
    ["I'LL", ['I', "'LL"]],
    ['don’t', ['don', '’t']],
    ['__init__', ['__', 'init', '__']],
    ['   \n  y', ['   \n', ' ', ' y']],
    ['hello!!!\n\n\nx', ['hello', '!!!\n\n\n', 'x']],
    ['a\n \n  b', ['a', '\n \n', ' ', ' b']],
    ['12Ⅷ½٣', ['1', '2', 'Ⅷ', '½', '٣']],
    ['\u0085a \ufeffb\ufeffc', ['\u0085a', ' \ufeff', 'b', '\ufeffc']],
    ['a\ufeff\u0085', ['a', '\ufeff', '\u0085']],
    ["'re'v'", ["'re", "'v", "'"]],
    ['x   ', ['x', '   ']],
    ['x   y', ['x', '  ', ' y']],
    ['\t\ty', ['\t', '\ty']],
    ['  1', [' ', ' ', '1']],
    [' \u0301a', [' \u0301', 'a']],
    ['𠮷𝟘😀𠮷', ['𠮷', '𝟘', '😀𠮷']],
  ])('of %j', (text, expected) => {
    expect(words(text)).toEqual(expected)
  })

  it('are those of the pattern in 3,000 random texts', () => {
    const random = randomSource(1)
    for (let i = 0; i < 3000; i++) {
      const text = randomText(random, 1 + Math.floor(random() * 50), ['<|im_end|>'])
      expect(words(text)).toEqual(text.match(pattern) ?? [])
    }
  })
})

describe('classes', () => {
  it('are those of Unicode in all planes', () => {
    for (let codePoint = 0; codePoint < 0x110000; codePoint += 37) {
      if (codePoint >= 0xd800 && codePoint < 0xe000) continue
      const character = String.fromCodePoint(codePoint)
      const isLetter = /\p{L}/u.test(character)
      const isNumber = /\p{N}/u.test(character)
      const value = classOf(codePoint)
      expect([value === LETTER, value === NUMBER]).toEqual([isLetter, isNumber])
    }
    expect(astralClass(0xd83d, 0xde00)).toBe(OTHER)
  })
})
