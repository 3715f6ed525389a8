import { describe, expect, it } from 'vitest'
import { withoutLeadingColon } from '../../../lib/generation/continued.js'

const special = 99

function texts(pieces: readonly string[], last = ''): string[] {
  const tokenizer = {
    isSpecial: (id: number) => id === special,
    createDecoder: () => ({
      push: (id: number) => (id === special ? '' : pieces[id]!),
      flush: () => last,
    }),
  }
  const decoder = withoutLeadingColon(tokenizer).createDecoder()
  return [...pieces.map((piece, id) => decoder.push(piece === '' ? special : id)), decoder.flush()]
}

describe('an answer behind a result', () => {
  it.each([
    [
      [': It', ' is'],
      ['It', ' is', ''],
    ],
    [
      [':', ' It', ': so'],
      ['', 'It', ': so', ''],
    ],
    [
      [':', ' ', ' It'],
      ['', '', ' It', ''],
    ],
    [[':It'], ['It', '']],
    [['::'], [':', '']],
    [
      ['It', ': so'],
      ['It', ': so', ''],
    ],
    [[' It'], [' It', '']],
  ])('of %j loses no more than the colon and a space', (pieces, expected) => {
    expect(texts(pieces)).toEqual(expected)
  })

  it('keeps a colon behind a special token, shown or not', () => {
    expect(texts(['', ': It'])).toEqual(['', ': It', ''])
  })

  it('loses the colon also where it is all there is', () => {
    expect(texts([], ':')).toEqual([''])
  })
})
