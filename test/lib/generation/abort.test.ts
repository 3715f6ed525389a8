import { getEventListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import { Abort } from '../../../lib/generation/abort.js'

describe('Abort', () => {
  it('takes the reason of a signal it follows', () => {
    const controller = new AbortController()
    const abort = new Abort()
    abort.follow(controller.signal)
    controller.abort('why')
    expect(abort).toMatchObject({ aborted: true, reason: 'why' })
    expect(() => abort.throwIfAborted()).toThrow('why')
  })

  it('is aborted at once by a signal that already is', () => {
    const abort = new Abort()
    abort.follow(AbortSignal.abort('before'))
    expect(abort.reason).toBe('before')
  })

  it('keeps the first reason', () => {
    const abort = new Abort()
    abort.abort('first')
    abort.abort('second')
    expect(abort.reason).toBe('first')
  })

  it('rejects a race at once and ignores what the work does later', async () => {
    const abort = new Abort()
    let fail!: (reason: unknown) => void
    const race = abort.race(new Promise((_, reject) => (fail = reject)))
    abort.abort('stop')
    await expect(race).rejects.toBe('stop')
    fail(new Error('late'))
  })

  it('passes results and errors of the work through', async () => {
    const abort = new Abort()
    expect(await abort.race(Promise.resolve(5))).toBe(5)
    await expect(abort.race(Promise.reject(new Error('broken')))).rejects.toThrow('broken')
  })

  it('leaves no listener on a signal after close(), nor a warning for many requests', async () => {
    const warnings: string[] = []
    const listener = (warning: Error) => warnings.push(warning.name)
    process.on('warning', listener)
    const { signal } = new AbortController()
    const aborts = Array.from({ length: 40 }, () => new Abort())
    for (const abort of aborts) abort.follow(signal)
    expect(getEventListeners(signal, 'abort')).toHaveLength(40)
    for (const abort of aborts) abort.close()
    expect(getEventListeners(signal, 'abort')).toHaveLength(0)
    await new Promise((resolve) => setImmediate(resolve)) // warnings come in a later turn
    process.off('warning', listener)
    expect(warnings).toEqual([])
  })
})
