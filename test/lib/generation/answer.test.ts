import { describe, expect, it } from 'vitest'
import { Answer } from '../../../lib/generation/answer.js'

const end = 9

/** A decoder that knows a few tokens; 5 is the first half of a character that 6 completes. */
function decoder() {
  const words = ['zero', ' one', ' two', ' END', ' EN', '', 'é']
  let half = false
  return {
    push(id: number) {
      half = id === 5
      return words[id] ?? `<${id}>`
    },
    flush: () => (half ? '\ufffd' : ''),
  }
}

describe('Answer', () => {
  it('collects ids and text, without the text of the token that ends it', () => {
    const answer = new Answer(decoder(), [end], [])
    expect([0, 1, end].map((id) => answer.push(id))).toEqual(['zero', ' one', ''])
    expect(answer.finish(true)).toBe('')
    expect(answer).toMatchObject({ text: 'zero one', tokenIds: [0, 1, end], stopped: false })
  })

  it('shows a character when it is whole, and what is left of one at the end', () => {
    const answer = new Answer(decoder(), [end], [])
    expect([5, 6, 5].map((id) => answer.push(id))).toEqual(['', 'é', ''])
    expect(answer.finish(true)).toBe('\ufffd')
    expect(answer.text).toBe('é\ufffd')
  })

  it('takes nothing after a stop string', () => {
    const answer = new Answer(decoder(), [end], [' END'])
    expect([0, 3, 1].map((id) => answer.push(id))).toEqual(['zero', '', ''])
    expect(answer.finish(true)).toBe('')
    expect(answer).toMatchObject({ text: 'zero', tokenIds: [0, 3], stopped: true })
  })

  it('gives back at the end what only began a stop string', () => {
    const answer = new Answer(decoder(), [end], [' END'])
    expect([0, 4, end].map((id) => answer.push(id))).toEqual(['zero', '', ''])
    expect(answer.finish(true)).toBe(' EN')
    expect(answer).toMatchObject({ text: 'zero EN', stopped: false })
  })
})
