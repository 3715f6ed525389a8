import { setImmediate } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { ImageError } from '../../../lib/errors.js'
import { MediaPlaces } from '../../../lib/generation/media-places.js'
import { loadModel, type ContentPart } from '../../../lib/index.js'
import { hasFfmpeg } from '../processor/clips.js'
import { serve } from '../processor/hostile-server.js'
import { requestOf, samples } from './tiny-samples.js'

const bytes = Buffer.from('bytes')

/** A stream of one chunk that comes when it is told to, and its reader's first call. */
function gate() {
  let open = () => {}
  let begun = false
  const opened = new Promise<void>((resolve) => (open = resolve))
  const stream = (async function* () {
    begun = true
    await opened
    yield bytes
  })()
  return { stream, open, begun: () => begun }
}

describe('places for images', () => {
  it('are not held by what is still on its way', async () => {
    const places = new MediaPlaces(1)
    const { stream, open } = gate()
    const done: unknown[] = []
    const work = (image: unknown) => Promise.resolve(void done.push(image))
    const slow = places.runImage(stream, { index: 0 }, work)
    await places.runImage('a path', { index: 1 }, work)
    await places.runVideo({ index: 2 }, ({ inPlace }) => inPlace!(() => work('a video')))
    expect(done).toEqual(['a path', 'a video'])
    open()
    await slow
    expect(done[2]).toEqual(bytes)
  })

  it('for what is on its way are bounded, until it has been worked on', async () => {
    const places = new MediaPlaces(1, 2)
    const gates = [gate(), gate(), gate()]
    let finish = () => {}
    const finished = new Promise<void>((resolve) => (finish = resolve))
    const runs = gates.map(({ stream }) => places.runImage(stream, { index: 0 }, () => finished))
    for (const { open } of gates) open()
    for (let i = 0; i < 20; i++) await setImmediate()
    expect(gates.map(({ begun }) => begun())).toEqual([true, true, false])
    finish()
    await Promise.all(runs)
    expect(gates[2]!.begun()).toBe(true)
  })

  it('are not held by a video that is still on its way', async () => {
    const places = new MediaPlaces(1)
    let arrive = () => {}
    const arrived = new Promise<void>((resolve) => (arrive = resolve))
    const done: string[] = []
    const work = (name: string) => Promise.resolve(void done.push(name))
    const video = places.runVideo({ index: 0 }, async ({ inPlace }) => {
      await arrived
      return inPlace!(() => work('the video'))
    })
    await places.runImage('a path', { index: 1 }, () => work('an image'))
    arrive()
    await video
    expect(done).toEqual(['an image', 'the video'])
  })

  it('are free again after a failure, which names the image', async () => {
    const places = new MediaPlaces(1, 1)
    const broken = () => ({
      // eslint-disable-next-line @typescript-eslint/require-await -- fails at once
      [Symbol.asyncIterator]: async function* (): AsyncGenerator<Uint8Array> {
        throw new Error('gone')
      },
    })
    for (const index of [0, 1]) {
      const work = () => expect.fail('there is nothing to work on')
      const error = await places
        .runImage(broken(), { index }, work)
        .catch((reason: unknown) => reason)
      expect(error).toBeInstanceOf(ImageError)
      expect(error).toMatchObject({ code: 'ERR_IMAGE_STREAM', index })
    }
  })
})

it('a server that does not answer holds up no other request', async () => {
  const server = await serve(() => {})
  await using model = await loadModel('tiny', { allowPrivateHosts: true })
  const controller = new AbortController()
  const hanging = Array.from({ length: 8 }, (_, i) => {
    const part: ContentPart =
      i < 4 || !hasFfmpeg
        ? { type: 'image', image: server.url() }
        : { type: 'video', video: server.url() }
    const messages = [{ role: 'user', content: [part] }]
    return model.generate({ messages, signal: controller.signal })
  })
  const settled = Promise.allSettled(hanging)
  await expect.poll(() => server.open()).toBe(8)
  const sample = samples.find(({ image_grid_thw }) => image_grid_thw.length === 1)!
  expect((await model.generate(requestOf(sample))).text).toBe(sample.reference.text_skip_special)
  controller.abort(new Error('enough'))
  await settled
  await server.close()
})
