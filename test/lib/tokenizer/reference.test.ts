/** The tokenizer against the reference, with the real vocabulary of Qwen2. */
import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { Tokenizer } from '../../../lib/tokenizer/tokenizer.js'
import { createOracle } from './oracle.js'
import { allScripts, randomSource, randomText } from './random-text.js'
import { realTokenizer } from './real-vocabulary.js'

let tokenizer: Tokenizer

beforeAll(async () => {
  tokenizer = await Tokenizer.load({ tokenizerJson: JSON.stringify(realTokenizer()) })
})

const prompt =
  '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' +
  '<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Describe this image.<|im_end|>\n' +
  '<|im_start|>assistant\n'

describe('known encodings', () => {
  it.each([
    ['', []],
    ['Hello world', [9707, 1879]],
    [' Hello world', [21927, 1879]],
    ['You are a helpful assistant.', [2610, 525, 264, 10950, 17847, 13]],
    ['Describe this image.', [74785, 419, 2168, 13]],
    [
      prompt,
      [
        151644, 8948, 198, 2610, 525, 264, 10950, 17847, 13, 151645, 198, 151644, 872, 198, 151652,
        151655, 151653, 74785, 419, 2168, 13, 151645, 198, 151644, 77091, 198,
      ],
    ],
    ['1234', [16, 17, 18, 19]],
    ["I'LL don't", [40, 6, 4086, 1513, 944]],
    ['a  b\n\n c   ', [64, 220, 293, 271, 272, 262]],
    ['你好，世界', [108386, 3837, 99489]],
    ['café cafe\u0301', [924, 58858, 51950]],
    ['😀', [141334]],
    ['\t\tfoo();\r\n', [197, 197, 7975, 1647]],
    ['(176,106),(232,160)', [7, 16, 22, 21, 11, 16, 15, 21, 23547, 17, 18, 17, 11, 16, 21, 15, 8]],
    ['✿FUNCTION✿', [144575, 18149, 144575]],
    ['\u212b', [144044]],
    ['\ufb01', [144300]],
    ['\u0344', [136, 230, 53839]],
    ['x <|im_start|> y', [87, 220, 151644, 379]],
    ['<|IM_END|>', [27, 91, 1791, 10898, 91, 29]],
    ['<|im_end|', [27, 91, 318, 6213, 91]],
    ['𠮷野家 🧑‍🚀', [150152, 99924, 45629, 11162, 100, 239, 378, 235, 145836]],
  ])('encodes %j', (text, ids) => {
    expect(tokenizer.encode(text)).toEqual(ids)
  })

  it('treats special tokens as plain text if asked to', () => {
    const ids = tokenizer.encode('<|im_end|>', { addedTokens: false })
    expect(ids).toEqual([27, 91, 318, 6213, 91, 29])
    expect(tokenizer.decode(ids)).toBe('<|im_end|>')
  })

  it('encodes lone surrogates as U+FFFD', () => {
    expect(tokenizer.encode('a\ud800b\udc00\ud83d')).toEqual(
      tokenizer.encode('a\ufffdb\ufffd\ufffd'),
    )
  })
})

describe('known decodings', () => {
  it('drops special tokens, but not the role after <|im_start|>', () => {
    expect(tokenizer.decode([151644, 872, 198, 9707, 151645])).toBe('user\nHello')
  })

  it('keeps special tokens if asked to', () => {
    const ids = [151644, 872, 198, 9707, 151645]
    expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(
      '<|im_start|>user\nHello<|im_end|>',
    )
  })

  it('drops the markers of boxes and keeps their numbers', () => {
    const text = '<|object_ref_start|>cat<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>'
    expect(tokenizer.decode(tokenizer.encode(text))).toBe('cat(1,2),(3,4)')
  })

  it.each([151657, 151935, 152063, -1, 0.5, 2 ** 40])('makes nothing of the id %d', (id) => {
    expect(tokenizer.decode([9707, id, 1879])).toBe('Hello world')
    expect(tokenizer.idToToken(id)).toBeUndefined()
    expect(tokenizer.isSpecial(id)).toBe(false)
  })
})

describe('tokens', () => {
  it('knows the fourteen added ones and no more', () => {
    expect(tokenizer.vocabSize).toBe(151657)
    expect(tokenizer.tokenToId('<|endoftext|>')).toBe(151643)
    expect(tokenizer.tokenToId('<|video_pad|>')).toBe(151656)
    expect(tokenizer.idToToken(151655)).toBe('<|image_pad|>')
    expect(tokenizer.isSpecial(151643)).toBe(true)
    expect(tokenizer.isSpecial(151642)).toBe(false)
  })

  it('writes base tokens in the byte alphabet', () => {
    expect(tokenizer.idToToken(1879)).toBe('Ġworld')
    expect(tokenizer.tokenToId('Ġworld')).toBe(1879)
    expect(tokenizer.tokenToId(' world')).toBeUndefined()
  })
})

describe('recorded encodings of the Rust library', () => {
  const recorded = JSON.parse(
    readFileSync(new URL('../../golden/tokenizer/encodings.json', import.meta.url), 'utf8'),
  ) as {
    cases: { text: string; ids: number[]; decoded: string }[]
    decodings: { ids: number[]; decoded: string; withSpecial: string }[]
  }

  it('gives the same ids', () => {
    expect(recorded.cases.length).toBeGreaterThan(450)
    const ours = recorded.cases.map(({ text }) => ({ text, ids: tokenizer.encode(text) }))
    expect(ours).toEqual(recorded.cases.map(({ text, ids }) => ({ text, ids })))
  })

  it('gives the same text back', () => {
    const ours = recorded.cases.map(({ ids }) => tokenizer.decode(ids))
    expect(ours).toEqual(recorded.cases.map(({ decoded }) => decoded))
  })

  it('decodes ids that no text has, whose bytes are often not UTF-8', () => {
    for (const { ids, decoded, withSpecial } of recorded.decodings) {
      expect(tokenizer.decode(ids), ids.join()).toBe(decoded)
      expect(tokenizer.decode(ids, { skipSpecialTokens: false }), ids.join()).toBe(withSpecial)
      expect(streamed(ids), ids.join()).toBe(decoded)
    }
  })
})

describe('random texts', () => {
  const description = realTokenizer()
  const oracle = createOracle(description)
  const added = description.added_tokens.map((token) => token['content'] as string)
  const textsOfEach = 360

  it('are at least 20,000, in more than 60 scripts', () => {
    expect(allScripts.length).toBeGreaterThan(60)
    expect(allScripts.length * textsOfEach).toBeGreaterThanOrEqual(20_000)
  })

  // The library is that of the reference, in JavaScript.
  it.each(allScripts)(
    'mostly of %s are encoded and decoded as the library does',
    async (name, textOf) => {
      const random = randomSource(20240919 + name.length)
      for (let i = 0; i < textsOfEach; i++) {
        const text = textOf(random, 1 + Math.floor(random() * 50), added)
        const expected = oracle.encode(text)
        const ids = tokenizer.encode(text)
        if (ids.join() !== expected.join()) expect({ text, ids }).toEqual({ text, ids: expected })

        const decoded = tokenizer.decode(ids, { skipSpecialTokens: false })
        if (decoded !== text.normalize('NFC')) expect(decoded).toBe(oracle.decode(expected))
        if (i % 6 > 0) continue
        expect(await tokenizer.encodeAsync(text)).toEqual(ids)
        expect(streamed(ids)).toBe(tokenizer.decode(ids))
      }
    },
  )
})

describe('long texts', () => {
  const random = randomSource(7)

  it('gives the same ids in slices as paragraph by paragraph', async () => {
    // After a newline and before a letter nothing depends on the other side.
    const paragraphs = Array.from(
      { length: 400 },
      (_, i) => `a${randomText(random, 40 + (i % 300), ['<|im_end|>'])}\n`,
    )
    const text = paragraphs.join('')
    expect(text.length).toBeGreaterThan(60_000)
    const expected = paragraphs.flatMap((paragraph) => tokenizer.encode(paragraph))
    expect(tokenizer.encode(text)).toEqual(expected)
    expect(await tokenizer.encodeAsync(text)).toEqual(expected)
  })

  it('merges a word of 200,000 letters, and the event loop runs meanwhile', async () => {
    const text = 'ab'.repeat(100_000)
    let turns = 0
    const timer = setInterval(() => turns++, 1)
    const ids = await tokenizer.encodeAsync(text)
    clearInterval(timer)
    expect(tokenizer.decode(ids)).toBe(text)
    expect(turns).toBeGreaterThan(3)
    // A short piece of it, merged pair by pair, repeats in the long one.
    const unit = tokenizer.encode('ab'.repeat(32))
    expect(ids.slice(0, unit.length - 2)).toEqual(unit.slice(0, -2))
  })

  it('takes a text without a single place to cut', async () => {
    for (const character of ['!', ' ', '的', '😀', '\u0301', '\n', 'é', '7']) {
      const text = character.repeat(40_000)
      const ids = await tokenizer.encodeAsync(text)
      expect(tokenizer.decode(ids)).toBe(text.normalize('NFC'))
    }
  })
})

/** Decoded id by id; no step may show half a character. */
function streamed(ids: readonly number[]): string {
  const decoder = tokenizer.createDecoder()
  const pieces = ids.map((id) => decoder.push(id))
  pieces.push(decoder.flush())
  for (const piece of pieces) expect(piece).not.toMatch(/\p{Surrogate}/u)
  return pieces.join('')
}
