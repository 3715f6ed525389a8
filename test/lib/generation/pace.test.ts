import { describe, expect, it } from 'vitest'
import { InvalidArgumentError, QueueFullError } from '../../../lib/errors.js'
import { Pace } from '../../../lib/generation/pace.js'

const stats = (queueMs: number, firstTokenMs: number, decodeMs: number) => ({
  ...{ promptTokens: 1, cachedTokens: 0, completionTokens: 1, visionMs: 0, prefillMs: 0 },
  ...{ draftTokens: 0, acceptedDraftTokens: 0 },
  ...{ queueMs, firstTokenMs, decodeMs, reusedItems: [] },
})
const full = new QueueFullError('full', { details: { queued: 9, limit: 9 } })

describe('Pace', () => {
  it('knows nothing before a request has ended', () => {
    const pace = new Pace(4)
    expect(pace.retryAfterMs).toBeUndefined()
    expect(pace.explain(full)).toBe(full)
  })

  it('says when a place is free: the time of a request, without its waiting, over the places', () => {
    const pace = new Pace(4)
    pace.note(stats(500, 700, 200))
    expect(pace.retryAfterMs).toBe(100)
    const error = pace.explain(full)
    expect(error).toMatchObject({ message: 'full', queued: 9, retryAfterMs: 100 })
    expect(error).toMatchObject({ details: { queued: 9, limit: 9, retryAfterMs: 100 } })
  })

  it('follows the last requests', () => {
    const pace = new Pace(1)
    pace.note(stats(0, 1000, 0))
    for (let i = 0; i < 50; ++i) pace.note(stats(0, 10, 0))
    expect(pace.retryAfterMs).toBe(11)
  })

  it('leaves other errors alone', () => {
    const pace = new Pace(1)
    pace.note(stats(0, 1, 0))
    const error = new InvalidArgumentError('wrong')
    expect(pace.explain(error)).toBe(error)
  })

  it('expects of work what work like it took', () => {
    const pace = new Pace(1)
    const work = { visionFlops: 4e9, prefillFlops: 1e9 }
    const done = { ...stats(0, 300, 0), visionMs: 200, prefillMs: 100 }
    expect(pace.expect(work)).toBeUndefined()
    pace.noteWork({ visionFlops: 0, prefillFlops: 1e9 }, { ...done, visionMs: 0 })
    expect(pace.expect(work)).toBeUndefined() // no image so far
    expect(pace.expect({ visionFlops: 0, prefillFlops: 2e9 })).toEqual({ vision: 0, prefill: 200 })
    pace.noteWork(work, done)
    expect(pace.expect({ visionFlops: 8e9, prefillFlops: 3e9 })).toEqual({
      vision: 400,
      prefill: 300,
    })
  })

  it('learns nothing from what the caches gave', () => {
    const pace = new Pace(1)
    const work = { visionFlops: 1e9, prefillFlops: 1e9 }
    pace.noteWork(work, { ...stats(0, 1, 0), cachedTokens: 32 })
    pace.noteWork(work, { ...stats(0, 1, 0), reusedItems: [true] })
    expect(pace.expect(work)).toBeUndefined()
  })
})
