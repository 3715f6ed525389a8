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

  it('agrees with a search in the whole text, however it is cut', () => {
    const text = 'abcabdabcabcabd|abcab|'
    for (const stops of [['abcabd'], ['bcabc', 'abd|'], ['|abc', 'x'], ['zzz']]) {
      const ends = stops.map((stop) => text.indexOf(stop)).filter((index) => index >= 0)
      const expected = ends.length > 0 ? text.slice(0, Math.min(...ends)) : text
      for (let size = 1; size <= text.length; ++size) {
        const pieces = Array.from({ length: Math.ceil(text.length / size) }, (_, i) =>
          text.slice(i * size, (i + 1) * size),
        )
        expect(run(stops, pieces).out.join('')).toBe(expected)
      }
    }
  })
})
