import { createReadStream } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Readable } from 'node:stream'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { FetchError, ImageError, InvalidArgumentError } from '../../../lib/errors.js'
import { DEFAULT_MEDIA_OPTIONS, type MediaOptions } from '../../../lib/processor/media-options.js'
import { isImageSource, loadSource, type ImageSource } from '../../../lib/processor/source.js'
import { serve } from './hostile-server.js'

const picture = Buffer.from('the bytes of a picture, and an even number.')
const half = picture.length >> 1
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qwen2-vl-kinds-'))
  await writeFile(join(folder, 'a.png'), picture)
})
afterAll(() => rm(folder, { recursive: true }))

const withRules = (changes: Partial<MediaOptions>): MediaOptions => ({
  ...DEFAULT_MEDIA_OPTIONS,
  ...changes,
})

async function load(source: ImageSource, changes: Partial<MediaOptions> = {}): Promise<string> {
  const loaded = await loadSource(source, withRules(changes))
  if (loaded.kind !== 'encoded') expect.fail('pixels were loaded')
  return Buffer.from(loaded.bytes).toString()
}

async function failure(
  source: unknown,
  changes: Partial<MediaOptions> = {},
  signal?: AbortSignal,
): Promise<ImageError> {
  return loadSource(source as ImageSource, withRules(changes), signal).then(
    () => expect.fail('the source was accepted'),
    (error: unknown) => error as ImageError,
  )
}

async function* pieces(): AsyncGenerator<Uint8Array> {
  yield picture.subarray(0, half)
  await Promise.resolve()
  yield picture.subarray(half)
}

/** Gives nothing, and tells when it is closed. */
function stuckStream(): { stream: Readable; closed: Promise<void> } {
  const stream = new Readable({ read: () => {} })
  return { stream, closed: new Promise((resolve) => stream.once('close', resolve)) }
}

const shared = () => {
  const bytes = new Uint8Array(new SharedArrayBuffer(picture.length))
  bytes.set(picture)
  return bytes
}

const kinds: [name: string, source: () => ImageSource][] = [
  ['a DataView', () => new DataView(picture.buffer, picture.byteOffset, picture.byteLength)],
  ['an Int8Array', () => new Int8Array(picture)],
  ['a Uint16Array', () => new Uint16Array(Uint8Array.from(picture.subarray(0, 42)).buffer)],
  ['shared memory', () => shared().buffer],
  ['a view of shared memory', shared],
  ['a Blob', () => new Blob([picture])],
  ['a File', () => new File([picture], 'a.png', { type: 'image/png' })],
  ['a file stream', () => createReadStream(join(folder, 'a.png'), { highWaterMark: 7 })],
  ['a Node stream', () => Readable.from(pieces(), { objectMode: false })],
  ['a web stream', () => new Blob([picture]).stream()],
  ['a web stream of buffers', () => new Response(picture).body!],
  ['an async generator', pieces],
  ['an async iterable', () => ({ [Symbol.asyncIterator]: pieces })],
  ['an object with toBuffer()', () => ({ toBuffer: () => picture })],
  ['an object with an async toBuffer()', () => ({ toBuffer: () => Promise.resolve(picture) })],
]

describe('an image can be', () => {
  it.each(kinds)('%s', async (name, source) => {
    expect(isImageSource(source())).toBe(true)
    const bytes = name === 'a Uint16Array' ? picture.subarray(0, 42) : picture
    expect(await load(source())).toBe(bytes.toString())
  })

  it('a web address, string or object', async () => {
    const png = await sharp({ create: { width: 2, height: 1, channels: 3, background: 'red' } })
      .png()
      .toBuffer()
    const server = await serve((_, response) => response.end(png))
    try {
      const rules = { allowPrivateHosts: true }
      expect(await load(server.url(), rules)).toBe(png.toString())
      expect(await load(new URL(server.url()), rules)).toBe(png.toString())
    } finally {
      await server.close()
    }
  })

  it('shared memory, of which a copy is used', async () => {
    const bytes = shared()
    const loaded = await loadSource(bytes)
    bytes.fill(0)
    expect(loaded).toEqual({ kind: 'encoded', bytes: Uint8Array.from(picture) })
  })
})

describe('a sharp pipeline', () => {
  const red = (channels: 3 | 4 = 3) =>
    sharp({
      create: { width: 3, height: 2, channels, background: { r: 255, g: 0, b: 7, alpha: 0.5 } },
    })

  it('gives its pixels, with nothing lost in the format it would write', async () => {
    const noise = Uint8Array.from({ length: 30 * 20 * 3 }, (_, i) => (i * i * 7919) >> 3)
    const pipeline = sharp(noise, { raw: { width: 30, height: 20, channels: 3 } }).jpeg({
      quality: 1,
    })
    expect(await loadSource(pipeline)).toEqual({
      kind: 'pixels',
      pixels: { data: Buffer.from(noise), width: 30, height: 20, channels: 3 },
    })
  })

  it('can be used again, because a copy of it runs', async () => {
    const pipeline = red().resize(1, 1).png()
    const first = await loadSource(pipeline)
    expect(first).toMatchObject({ pixels: { width: 1, height: 1 } })
    expect(await loadSource(pipeline)).toEqual(first)
    expect((await pipeline.metadata()).width).toBe(3)
  })

  it('gives 8 bits and RGB whatever its colours are', async () => {
    for (const space of ['rgb16', 'cmyk', 'lab']) {
      const { pixels } = (await loadSource(red().toColourspace(space))) as {
        pixels: { data: Uint8Array; channels: number }
      }
      expect(pixels.channels).toBe(3)
      expect([...pixels.data.subarray(0, 3)]).toEqual([255, 0, 7])
    }
    expect(await loadSource(red(4))).toMatchObject({ pixels: { channels: 4 } })
  })

  it('that fails says why', async () => {
    const error = await failure(sharp(Buffer.from('nothing')))
    expect(error.code).toBe('ERR_IMAGE_SOURCE')
    expect(error.message).toMatch(/its toBuffer\(\) failed \(.*unsupported image format.*\)/)
  })
})

describe('streams', () => {
  it.each<[string, () => ImageSource]>([
    ['a Node stream', () => Readable.from(pieces(), { objectMode: false })],
    ['a web stream', () => new Blob([picture]).stream()],
    ['a generator', pieces],
  ])('%s that was read before is refused', async (_, make) => {
    const stream = make()
    await load(stream)
    const error = await failure(stream)
    expect(error.code).toBe('ERR_IMAGE_STREAM')
    expect(error.message).toMatch(/read before; a stream can be read once\. Give each use/)
  })

  it('that others have read or hold are refused', async () => {
    const read = Readable.from([picture], { objectMode: false })
    for await (const chunk of read) expect(chunk).toEqual(picture)
    const held = new Blob([picture]).stream()
    held.getReader()
    for (const stream of [read, held]) {
      expect((await failure(stream)).code).toBe('ERR_IMAGE_STREAM')
    }
  })

  it('an iterable that begins anew each time can be read twice', async () => {
    const source = { [Symbol.asyncIterator]: pieces }
    expect(await load(source)).toBe(await load(source))
  })

  it('that fail tell why', async () => {
    const broken = new Readable({ read: () => broken.destroy(new Error('the disk is gone')) })
    const error = await failure(broken)
    expect(error.code).toBe('ERR_IMAGE_STREAM')
    expect(error.message).toMatch(/its stream failed \(the disk is gone\)/)
    expect((error.cause as Error).message).toBe('the disk is gone')
  })

  it('of strings or numbers are refused', async () => {
    const text = createReadStream(join(folder, 'a.png'), { encoding: 'latin1' })
    expect((await failure(text)).message).toMatch(/gives a string instead of bytes; do not set/)
    expect((await failure(Readable.from([1, 2]))).message).toMatch(
      /gives a number instead of bytes/,
    )
  })

  it('of nothing are empty', async () => {
    expect((await failure(Readable.from([]))).code).toBe('ERR_IMAGE_EMPTY')
  })

  it('that never end are closed at the limit', async () => {
    let closed = false
    const endless = async function* () {
      try {
        for (;;) yield await Promise.resolve(picture)
      } finally {
        closed = true
      }
    }
    const error = await failure(endless(), { maxImageBytes: 1000 })
    expect(error.code).toBe('ERR_IMAGE_TOO_LARGE')
    expect(error.message).toMatch(/has more than the 1,000 bytes that are read/)
    await expect.poll(() => closed).toBe(true)
  })

  it('that give nothing are closed when the signal says so', async () => {
    const reason = new Error('enough')
    const { stream, closed } = stuckStream()
    expect(await failure(stream, {}, AbortSignal.abort(reason))).toBe(reason)
    await closed
    let cancelled: unknown
    const web = new ReadableStream<Uint8Array>({ cancel: (why) => void (cancelled = why ?? true) })
    const controller = new AbortController()
    const failed = failure(web, {}, controller.signal)
    controller.abort(reason)
    expect(await failed).toBe(reason)
    expect(cancelled).toBe(true)
  })
})

describe('the limit of encoded bytes', () => {
  it('holds for every kind, and exactly', async () => {
    const size = picture.length
    const sources: (() => ImageSource)[] = [
      () => picture,
      () => join(folder, 'a.png'),
      () => pathToFileURL(join(folder, 'a.png')),
      () => `data:;base64,${picture.toString('base64')}`,
      () => `data:;base64,${encodeURIComponent(picture.toString('base64'))}`,
      ...kinds.filter(([name]) => name !== 'a Uint16Array').map(([, source]) => source),
    ]
    for (const source of sources) {
      expect(await load(source(), { maxImageBytes: size })).toBe(picture.toString())
      const error = await failure(source(), { maxImageBytes: size - 1 })
      expect(error).toBeInstanceOf(ImageError)
      expect(error.code).toBe('ERR_IMAGE_TOO_LARGE')
      expect(error.details).toMatchObject({ limit: size - 1 })
    }
  })
})

describe('what the model was told not to read', () => {
  it('files, in any spelling', async () => {
    const path = join(folder, 'a.png')
    for (const source of [
      path,
      pathToFileURL(path),
      `file://${path}`,
      'FILE:a.png',
      'missing.png',
    ]) {
      const error = await failure(source, { allowFiles: false })
      expect(error.code).toBe('ERR_IMAGE_SOURCE')
      expect(error.message).toMatch(/allowFiles: false/)
    }
    expect(await load(picture, { allowFiles: false })).toBe(picture.toString())
  })

  it('web addresses', async () => {
    for (const source of ['http://a.test/x', 'HTTPS://a.test/x', new URL('https://a.test/x')]) {
      const error = await failure(source, { allowUrls: false })
      expect(error).toBeInstanceOf(FetchError)
      expect(error.code).toBe('ERR_FETCH_BLOCKED')
    }
  })

  it('other hosts and private ones', async () => {
    const other = await failure('http://a.test/x', { allowedHosts: ['b.test'] })
    expect(other.message).toMatch(/allowedHosts/)
    expect((await failure('http://127.0.0.1/x')).code).toBe('ERR_FETCH_BLOCKED')
  })

  it('what takes longer than fetchTimeoutMs', async () => {
    const server = await serve(() => {})
    try {
      const rules = { allowPrivateHosts: true, fetchTimeoutMs: 30 }
      expect((await failure(server.url(), rules)).code).toBe('ERR_FETCH_TIMEOUT')
    } finally {
      await server.close()
    }
  })
})

it('other things with toBuffer() must give bytes', async () => {
  const error = await failure({ toBuffer: () => 'text' })
  expect(error).toBeInstanceOf(InvalidArgumentError)
  expect(error.message).toMatch(/toBuffer\(\) gave "text"; expected the bytes/)
})
