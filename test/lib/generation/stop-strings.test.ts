import { describe, expect, it } from 'vitest'
import { StopStrings } from '../../../lib/generation/stop-strings.js'

/** Feeds the pieces until a stop; returns what came out piece by piece, and whether it stopped. */
function run(stops: string[], pieces: string[]): { out: string[]; stopped: boolean } {
  const filter = new StopStrings(stops)
  const out: string[] = []
  for (const piece of pieces) {
    const { text, stopped } = filter.push(piece)
    out.push(text)
    if (stopped) return { out, stopped }
  }
  out.push(filter.flush())
  return { out, stopped: false }
}

describe('StopStrings', () => {
  it('lets everything through without stop strings', () => {
    expect(run([], ['a', 'b'])).toEqual({ out: ['a', 'b', ''], stopped: false })
  })

  it('ends before a stop string inside one piece', () => {
    expect(run(['END'], ['one END two'])).toEqual({ out: ['one '], stopped: true })
  })

  it('finds a stop string that straddles pieces, and shows none of it', () => {
    expect(run(['END'], ['one E', 'N', 'D two'])).toEqual({ out: ['one ', '', ''], stopped: true })
  })

  it('gives back what was held when it turns out not to be one', () => {
    expect(run(['END'], ['one E', 'N', 'ough'])).toEqual({
      out: ['one ', '', 'ENough', ''],
      stopped: false,
    })
  })

  it('gives back what was held at the end', () => {
    expect(run(['END'], ['one EN'])).toEqual({ out: ['one ', 'EN'], stopped: false })
  })

  it('finds overlapping beginnings', () => {
    expect(run(['aab'], ['aaa', 'b!'])).toEqual({ out: ['a', ''], stopped: true })
  })

  it('takes the first of several', () => {
    expect(run(['two', 'one'], ['zero one two']).out).toEqual(['zero '])
  })

  it.each([
    ['the one that is complete first', ['abcd', 'bc'], 'xabcd', 'xa'],
    ['the longest of those complete at once', ['bcd', 'abcd', 'd'], 'xabcd', 'x'],
    ['one that another begins with', ['abcd', 'ab'], 'xabcd', 'x'],
  ])('ends at %s, however the text is cut', (_, stops, text, expected) => {
    for (let size = 1; size <= text.length; ++size) {
      expect(
        run(
          stops,
          cut(text, () => size),
        ).out.join(''),
      ).toBe(expected)
    }
  })

  it('finds stop strings of characters of two units, and never shows half of one', () => {
    const { out } = run(['😀!'], ['a😀', '😀', '!b'])
    expect(out).toEqual(['a', '😀', ''])
  })

  it('agrees with its definition over random texts, stop strings and cuts', () => {
    const random = generator(20240912)
    const letters = ['a', 'b', '😀', '\n', 'é']
    const word = (least: number, most: number) =>
      Array.from({ length: least + random(most - least + 1) }, () => letters[random(5)]).join('')
    for (let round = 0; round < 3000; ++round) {
      const text = word(0, 40)
      const stops = Array.from({ length: 1 + random(4) }, () => word(1, 4))
      const end = firstEnd(text, stops)
      // Whole characters, as a decoder gives them.
      const characters = Array.from(text)
      const pieces: string[] = []
      while (characters.length > 0) pieces.push(characters.splice(0, 1 + random(6)).join(''))
      const { out, stopped } = run(stops, pieces)
      const whole = `${JSON.stringify(text)} without ${JSON.stringify(stops)}`
      expect(out.join(''), whole).toBe(end === undefined ? text : text.slice(0, end))
      expect(stopped, whole).toBe(end !== undefined)
    }
  })

  it('shows at once what cannot become a stop string', () => {
    const random = generator(7)
    for (let round = 0; round < 500; ++round) {
      const text = Array.from({ length: 30 }, () => 'ab|'[random(3)]).join('')
      const stop = Array.from({ length: 1 + random(4) }, () => 'ab|'[random(3)]).join('')
      const filter = new StopStrings([stop])
      let shown = ''
      for (let i = 0; i < text.length; ++i) {
        const { text: piece, stopped } = filter.push(text[i]!)
        shown += piece
        if (stopped) break
        const held = text.slice(shown.length, i + 1)
        // It may yet become the stop string, and nothing longer than needed is held.
        expect(stop.startsWith(held)).toBe(true)
        expect(held.length).toBeLessThan(stop.length)
      }
    }
  })
})

/** Where the stop string begins that is complete first, found by looking at every place. */
function firstEnd(text: string, stops: string[]): number | undefined {
  for (let end = 1; end <= text.length; ++end) {
    const begins = stops
      .filter((stop) => text.slice(0, end).endsWith(stop))
      .map((stop) => end - stop.length)
    if (begins.length > 0) return Math.min(...begins)
  }
  return undefined
}

function cut(text: string, size: () => number): string[] {
  const pieces: string[] = []
  for (let i = 0; i < text.length;) {
    const length = size()
    pieces.push(text.slice(i, i + length))
    i += length
  }
  return pieces
}

/** Whole numbers below `limit`, the same ones for the same seed. */
function generator(seed: number): (limit: number) => number {
  let state = seed
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * limit)
  }
}
