import { describe, expect, it } from 'vitest'
import { Abort } from '../../../lib/generation/abort.js'
import type { GenerateResult, GenerationEvent } from '../../../lib/generation/result.js'
import { GenerationStream } from '../../../lib/generation/stream.js'

const usage = {
  promptTokens: 1,
  textTokens: 1,
  imageTokens: 0,
  videoTokens: 0,
  cachedTokens: 0,
  draftTokens: 0,
  acceptedDraftTokens: 0,
  completionTokens: 0,
}
const start: GenerationEvent = { type: 'start', usage, images: [] }
const text = (piece: string): GenerationEvent => ({ type: 'text', text: piece, tokenId: 1 })

/** A stream whose producer the test plays. */
function open() {
  const abort = new Abort()
  let emit!: (event: GenerationEvent) => void
  let resolve!: (result: GenerateResult) => void
  let reject!: (reason: unknown) => void
  const stream = new GenerationStream(abort, (given) => {
    emit = given
    return new Promise<GenerateResult>((...settle) => ([resolve, reject] = settle))
  })
  abort.onAbort(() => reject(abort.reason))
  return { stream, abort, emit, finish: () => resolve({ text: 'ab' } as GenerateResult), reject }
}

async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = []
  for await (const item of source) items.push(item)
  return items
}

describe('GenerationStream', () => {
  it('yields events in order, those before the reader came among them', async () => {
    const { stream, emit, finish } = open()
    emit(start)
    emit(text('a'))
    const reading = collect(stream)
    await Promise.resolve()
    emit(text('b'))
    finish()
    expect(await reading).toEqual([start, text('a'), text('b')])
    expect(await stream.result).toEqual({ text: 'ab' })
  })

  it('yields the text alone through textStream', async () => {
    const { stream, emit, finish } = open()
    for (const event of [start, text('a'), text('b')]) emit(event)
    finish()
    expect(await collect(stream.textStream)).toEqual(['a', 'b'])
  })

  it('cancels when the reader leaves the loop', async () => {
    const { stream, abort, emit } = open()
    emit(text('a'))
    emit(text('b'))
    for await (const piece of stream.textStream) {
      expect(piece).toBe('a')
      break
    }
    expect(abort.aborted).toBe(true)
    await expect(stream.result).rejects.toMatchObject({ name: 'AbortError' })
  })

  it('cancels when the reader leaves before or during its first read', async () => {
    const before = open()
    await before.stream[Symbol.asyncIterator]().return?.()
    expect(before.abort.aborted).toBe(true)

    const during = open()
    const iterator = during.stream[Symbol.asyncIterator]()
    const pending = iterator.next()
    await iterator.return?.()
    expect(await pending).toEqual({ done: true, value: undefined })
    expect(during.abort.aborted).toBe(true)
  })

  it('rejects iterator and result with the reason of abort()', async () => {
    const { stream, emit } = open()
    emit(text('a'))
    const reason = new Error('enough')
    stream.abort(reason)
    await expect(collect(stream)).rejects.toBe(reason)
    await expect(stream.result).rejects.toBe(reason)
  })

  it('rejects the iterator with an error after the events before it, then is done', async () => {
    const { stream, emit, reject } = open()
    emit(text('a'))
    reject(new Error('broken'))
    const iterator = stream[Symbol.asyncIterator]()
    expect(await iterator.next()).toEqual({ done: false, value: text('a') })
    await expect(iterator.next()).rejects.toThrow('broken')
    expect(await iterator.next()).toEqual({ done: true, value: undefined })
  })

  it('leaves no unhandled rejection when nobody looks', async () => {
    const unhandled: unknown[] = []
    const listener = (reason: unknown) => unhandled.push(reason)
    process.on('unhandledRejection', listener)
    open().stream.abort()
    await new Promise((resolve) => setImmediate(resolve))
    process.off('unhandledRejection', listener)
    expect(unhandled).toEqual([])
  })

  it('can be read once', () => {
    const { stream } = open()
    stream[Symbol.asyncIterator]()
    expect(() => stream.textStream[Symbol.asyncIterator]()).toThrow(/already being read/)
  })

  it('serves reads that do not wait for each other in order', async () => {
    const { stream, emit, finish } = open()
    const iterator = stream[Symbol.asyncIterator]()
    const reads = Promise.all([iterator.next(), iterator.next(), iterator.next()])
    emit(text('a'))
    emit(text('b'))
    finish()
    expect((await reads).map(({ value }) => (value as { text: string } | undefined)?.text)).toEqual(
      ['a', 'b', undefined],
    )
  })
})
