import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  FetchError,
  ImageError,
  InvalidArgumentError,
  loadModel,
  type ImagePart,
  type ImageSource,
  type LoadModelOptions,
  type Model,
} from '../../lib/index.js'
import { serve, type TestServer } from './processor/hostile-server.js'

const file = fileURLToPath(new URL('../golden/images/files/rgb-large.png', import.meta.url))
let folder: string
let server: TestServer
let asked: string[] = []

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qwen2-vl-rules-'))
  const bytes = await readFile(file)
  server = await serve(({ url = '' }, response) => {
    asked.push(url)
    if (url !== '/slow') response.end(url === '/page' ? '<html>' : bytes)
  })
})
afterAll(async () => {
  await server.close()
  await rm(folder, { recursive: true })
})

async function withModel<T>(options: LoadModelOptions, use: (model: Model) => Promise<T>) {
  await using model = await loadModel('tiny', options)
  return await use(model)
}

/** What becomes of one image when a model with these rules counts its tokens. */
function seen(options: LoadModelOptions, image: ImageSource, part: Partial<ImagePart> = {}) {
  return withModel(options, async (model) => {
    const content: ImagePart[] = [{ ...part, type: 'image', image }]
    const { images } = await model.countTokens({ messages: [{ role: 'user', content }] })
    return images[0]!
  })
}

async function failure(options: LoadModelOptions, image: ImageSource): Promise<FetchError> {
  return seen(options, image).then(
    () => expect.fail('it was accepted'),
    (error: unknown) => error as FetchError,
  )
}

describe('limits of the model', () => {
  it("take the place of the file's, and give way to the image's own", async () => {
    const large = { minPixels: 401_408, maxPixels: 1_003_520 }
    const small = { maxPixels: 50_176 }
    const area = ({
      resizedWidth,
      resizedHeight,
    }: {
      resizedWidth: number
      resizedHeight: number
    }) => resizedWidth * resizedHeight
    const plain = area(await seen({}, file))
    expect(area(await seen(small, file))).toBeLessThanOrEqual(50_176)
    expect(plain).toBeGreaterThan(50_176)
    expect(plain).toBeLessThan(401_408)
    expect(area(await seen(large, file))).toBeGreaterThanOrEqual(401_408)
    expect(area(await seen(small, file, { maxPixels: 100_352 }))).toBeGreaterThan(50_176)
    expect(area(await seen(large, file, { maxPixels: 50_176 }))).toBeLessThanOrEqual(50_176)
  })

  it.each<[LoadModelOptions, string]>([
    [{ minPixels: 5000, maxPixels: 4000 }, 'minPixels'],
    [{ minPixels: 2 ** 30 }, 'minPixels'],
    [{ maxPixels: 1 }, 'maxPixels'],
  ])('must make sense, also with the file: %j', async (options, path) => {
    const error = await loadModel('tiny', options).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(InvalidArgumentError)
    expect(error).toMatchObject({ path })
    expect((error as Error).message).toMatch(/minPixels, \d+, is more than maxPixels, \d+/)
  })

  it('of bytes and pixels hold', async () => {
    const size = (await readFile(file)).length
    await seen({ maxImageBytes: size }, file)
    expect((await failure({ maxImageBytes: size - 1 }, file)).code).toBe('ERR_IMAGE_TOO_LARGE')
    const { width, height } = await seen({}, file)
    await seen({ maxImagePixels: width * height }, file)
    const error = await failure({ maxImagePixels: width * height - 1 }, file)
    expect(error).toBeInstanceOf(ImageError)
    expect(error.code).toBe('ERR_IMAGE_TOO_LARGE')
  })
})

describe('web addresses', () => {
  it('of private hosts are asked where that is allowed, and only then', async () => {
    asked = []
    const error = await failure({}, server.url('/a'))
    expect(error).toBeInstanceOf(FetchError)
    expect(error).toMatchObject({ code: 'ERR_FETCH_BLOCKED', index: 0, url: server.url('/a') })
    expect(error.message).toMatch(/^Image 1: http:\/\/127\.0\.0\.1:\d+\/a leads to a private/)
    expect(asked).toEqual([])
    const image = await seen({ allowPrivateHosts: true }, server.url('/a'))
    expect(image).toEqual(await seen({}, file))
    expect(asked).toEqual(['/a'])
  })

  it('hold to the other rules', async () => {
    const open = { allowPrivateHosts: true }
    expect((await failure({ ...open, allowUrls: false }, server.url())).message).toMatch(
      /allowUrls/,
    )
    expect((await failure({ ...open, allowedHosts: ['a.test'] }, server.url())).message).toMatch(
      /allowedHosts/,
    )
    await seen({ ...open, allowedHosts: ['127.0.0.1'] }, server.url())
    const slow = await failure({ ...open, fetchTimeoutMs: 30 }, server.url('/slow'))
    expect(slow.code).toBe('ERR_FETCH_TIMEOUT')
    const large = await failure({ ...open, maxImageBytes: 10 }, server.url())
    expect(large.code).toBe('ERR_FETCH_TOO_LARGE')
    expect((await failure(open, server.url('/page'))).message).toMatch(
      /gave an HTML page, not an image/,
    )
  })

  it('are left when the request is aborted', async () => {
    await withModel({ allowPrivateHosts: true }, async (model) => {
      const image = server.url('/slow')
      const content: ImagePart[] = [{ type: 'image', image }]
      const controller = new AbortController()
      const { signal } = controller
      asked = []
      const answer = model.generate({ messages: [{ role: 'user', content }], signal })
      await expect.poll(() => asked).toEqual(['/slow'])
      controller.abort(new Error('enough'))
      await expect(answer).rejects.toBe(signal.reason)
      await expect.poll(() => server.open(), { timeout: 1000 }).toBe(0)
    })
  })
})

it('files are not read where that is not allowed', async () => {
  const error = await failure({ allowFiles: false }, file)
  expect(error.code).toBe('ERR_IMAGE_SOURCE')
  await seen({ allowFiles: false }, await readFile(file))
})

describe('decoding', () => {
  it('turns photographs by EXIF only where asked to', async () => {
    const photo = join(folder, 'turned.jpg')
    const plain = sharp({ create: { width: 300, height: 200, channels: 3, background: 'red' } })
    await writeFile(photo, await plain.jpeg().withMetadata({ orientation: 6 }).toBuffer())
    expect(await seen({}, photo)).toMatchObject({ width: 300, height: 200 })
    expect(await seen({ exif: 'apply' }, photo)).toMatchObject({ width: 200, height: 300 })
  })

  it.each([
    [{ allowedHosts: ['http://a.test'] }, 'allowedHosts.0'],
    [{ alpha: 'black' }, 'alpha'],
    [{ exif: true }, 'exif'],
    [{ maxImagePixels: 2 ** 30 + 1 }, 'maxImagePixels'],
    [{ maxImageBytes: 0 }, 'maxImageBytes'],
    [{ fetchTimeoutMs: 0 }, 'fetchTimeoutMs'],
    [{ allowUrl: false }, 'allowUrl'],
  ])('and all other rules are checked: %j', async (options, path) => {
    const error = await loadModel('tiny', options as LoadModelOptions).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(InvalidArgumentError)
    expect(error).toMatchObject({ path })
  })
})
