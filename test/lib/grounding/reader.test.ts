import { beforeAll, describe, expect, it } from 'vitest'
import { GroundingReader } from '../../../lib/grounding/reader.js'
import { Tokenizer } from '../../../lib/tokenizer/tokenizer.js'
import { tinyFile } from '../tokenizer/tiny-checkpoint.js'

let tokenizer: Tokenizer
beforeAll(async () => {
  tokenizer = await Tokenizer.load({
    tokenizerJson: tinyFile('tokenizer.json'),
    tokenizerConfigJson: tinyFile('tokenizer_config.json'),
  })
})

const boxes = [
  '<|object_ref_start|>a 你 cat<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>',
  '<|box_start|>(5,6)<|box_end|>',
] as const
const answer = `See ${boxes[0]}${boxes[1]} there`
const plain = 'See a 你 cat(1,2),(3,4)(5,6) there'

describe('GroundingReader', () => {
  it('gives each item with the token that completes it, and the raw text', () => {
    const reader = new GroundingReader(tokenizer)
    const decoder = tokenizer.createDecoder()
    let raw = ''
    let shown = 0
    const taken: [string, string][] = []
    for (const id of tokenizer.encode(answer)) {
      reader.push(id)
      raw += tokenizer.decode([id], { skipSpecialTokens: false })
      shown += decoder.push(id).length
      for (const { kind, label } of reader.take(shown)) {
        taken.push([kind, label])
        expect(raw.endsWith('<|box_end|>')).toBe(true)
      }
    }
    expect(taken).toEqual([
      ['box', 'a 你 cat'],
      ['point', 'a 你 cat'],
    ])
    expect(shown).toBe(plain.length)
    expect(reader.finish(shown)).toBe(answer)
  })

  it('holds an item back until the text before its end has been shown', () => {
    const reader = new GroundingReader(tokenizer)
    for (const id of tokenizer.encode(answer)) reader.push(id)
    const first = plain.indexOf('(5')
    const second = plain.indexOf(' there')
    expect(reader.take(first - 1)).toEqual([])
    expect(reader.take(first)).toMatchObject([{ kind: 'box' }])
    expect(reader.take(second - 1)).toEqual([])
    expect(reader.take(second)).toMatchObject([{ kind: 'point' }])
    expect(reader.take(plain.length)).toEqual([])
  })

  it.each([
    [
      'inside a box',
      plain.indexOf('3,4'),
      'See <|object_ref_start|>a 你 cat<|object_ref_end|><|box_start|>(1,2),(',
    ],
    ['after a marker', plain.indexOf('(5'), `See ${boxes[0]}<|box_start|>`],
    ['at the very beginning', 0, ''],
  ])('cuts the raw text where the answer was cut, %s', (_, shown, raw) => {
    const reader = new GroundingReader(tokenizer)
    for (const id of tokenizer.encode(answer)) reader.push(id)
    expect(reader.finish(shown)).toBe(raw)
  })
})
