import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { runInNewContext } from 'node:vm'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ImageError, InvalidArgumentError } from '../../../lib/errors.js'
import { loadSource, type ImageSource, type RawPixels } from '../../../lib/processor/source.js'

const picture = Buffer.from('the bytes of a picture')
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qwen2-vl-source-'))
  await writeFile(join(folder, 'a.png'), picture)
  await writeFile(join(folder, 'a b#c?.png'), picture)
  await writeFile(join(folder, '100%.png'), picture)
  await writeFile(join(folder, 'empty.png'), '')
  await mkdir(join(folder, 'folder.png'))
})
afterAll(() => rm(folder, { recursive: true }))

async function load(source: ImageSource): Promise<string> {
  const loaded = await loadSource(source)
  if (loaded.kind !== 'encoded') expect.fail('pixels were loaded')
  return Buffer.from(loaded.bytes).toString()
}

async function failure(source: unknown): Promise<ImageError> {
  return loadSource(source as ImageSource).then(
    () => expect.fail('the source was accepted'),
    (error: unknown) => error as ImageError,
  )
}

describe('an image can be', () => {
  const base64 = picture.toString('base64')
  const at = (name: string) => join(folder, name)
  const sources: [name: string, source: () => ImageSource][] = [
    ['an absolute path', () => at('a.png')],
    ['a relative path', () => relative(process.cwd(), at('a.png'))],
    ['a path with characters that mean something in URLs', () => at('a b#c?.png')],
    ['a file: URL object', () => pathToFileURL(at('a b#c?.png'))],
    ['a file: URL string, escaped', () => pathToFileURL(at('a b#c?.png')).href],
    ['a file: URL string as the reference takes it, unescaped', () => `file://${at('a b#c?.png')}`],
    ['a file: URL string with a % that escapes nothing', () => `file://${at('100%.png')}`],
    ['file:// with a relative path', () => `file://${relative(process.cwd(), at('a.png'))}`],
    ['a file: URL with the host localhost', () => `file://localhost${at('a.png')}`],
    ['a file: URL in capitals', () => `FILE://${at('a.png')}`],
    ['a data: URL', () => `data:image/png;base64,${base64}`],
    ['a data: URL without a type', () => `data:image;base64,${base64}`],
    ['a data: URL object', () => new URL(`data:image/png;base64,${base64}`)],
    ['a data: URL with escapes', () => `data:image/png;base64,${encodeURIComponent(base64)}`],
    ['a Buffer', () => picture],
    ['a Uint8Array over a part of its buffer', () => new Uint8Array(picture)],
    ['an ArrayBuffer', () => Uint8Array.from(picture).buffer],
    [
      'an ArrayBuffer of another realm',
      () =>
        runInNewContext(`Uint8Array.from(${JSON.stringify([...picture])}).buffer`) as ArrayBuffer,
    ],
  ]
  it.each(sources)('%s', async (_, source) => {
    expect(await load(source())).toBe(picture.toString())
  })

  it('raw pixels', async () => {
    const pixels: RawPixels = { data: new Uint8Array(12), width: 2, height: 2, channels: 3 }
    expect(await loadSource(pixels)).toEqual({ kind: 'pixels', pixels })
    const clamped: RawPixels = { data: new Uint8ClampedArray(4), width: 4, height: 1, channels: 1 }
    expect(await loadSource(clamped)).toEqual({ kind: 'pixels', pixels: clamped })
  })
})

describe('file: URLs', () => {
  it('mean the decoded name where both names exist', async () => {
    await writeFile(join(folder, 'x%20y.png'), 'literal')
    expect(await load(`file://${join(folder, 'x%20y.png')}`)).toBe('literal')
    await writeFile(join(folder, 'x y.png'), 'decoded')
    expect(await load(`file://${join(folder, 'x%20y.png')}`)).toBe('decoded')
  })
})

describe('what cannot be read', () => {
  it('a file that is not there', async () => {
    const error = await failure('missing.png')
    expect(error).toBeInstanceOf(ImageError)
    expect(error.code).toBe('ERR_IMAGE_NOT_FOUND')
    expect(error.message).toMatch(/no file missing\.png\..*working directory/)
  })

  it.each(['file:///missing%20a.png', 'file:missing.png', 'file://host/missing.png'])(
    'a file: URL that leads nowhere: %s',
    async (url) => expect((await failure(url)).code).toBe('ERR_IMAGE_NOT_FOUND'),
  )

  it('a path below a file', async () => {
    expect((await failure(join(folder, 'a.png/b.png'))).code).toBe('ERR_IMAGE_NOT_FOUND')
  })

  it('base64 without data: before it, with a hint', async () => {
    for (const length of [90, 30_000]) {
      const error = await failure(Buffer.alloc(length, 'photo').toString('base64'))
      expect(error.code).toBe('ERR_IMAGE_NOT_FOUND')
      expect(error.message).toMatch(/looks like base64: put "data:image;base64," before it/)
      expect(error.message.length).toBeLessThan(400)
    }
  })

  it('a path with a zero byte', async () => {
    expect((await failure('a\0.png')).code).toBe('ERR_IMAGE_NOT_FOUND')
  })

  it('addresses of other schemes', async () => {
    expect((await failure('s3://bucket/a.png')).message).toMatch(/scheme s3 are not read/)
  })

  it('a folder', async () => {
    const error = await failure(join(folder, 'folder.png'))
    expect(error.code).toBe('ERR_IMAGE_READ')
    expect(error.message).toMatch(/is a folder/)
  })

  it.skipIf(process.platform === 'win32')('a pipe, without waiting for a writer', async () => {
    const pipe = join(folder, 'pipe.png')
    await promisify(execFile)('mkfifo', [pipe])
    expect((await failure(pipe)).message).toMatch(/is not a regular file/)
  })

  it('a file larger than 64 MiB', async () => {
    const huge = join(folder, 'huge.png')
    await writeFile(huge, '')
    await truncate(huge, 2 ** 26 + 1) // sparse
    expect((await failure(huge)).code).toBe('ERR_IMAGE_TOO_LARGE')
  })

  it('nothing', async () => {
    for (const empty of [join(folder, 'empty.png'), new Uint8Array(0), 'data:image/png;base64,']) {
      expect((await failure(empty)).code).toBe('ERR_IMAGE_EMPTY')
    }
  })

  it('a data: URL that is not base64', async () => {
    const error = await failure('data:image/svg+xml,<svg/>')
    expect(error.code).toBe('ERR_IMAGE_SOURCE')
    expect(error.message).toMatch(/is not base64/)
  })

  it.each([
    [7, '7'],
    [null, 'null'],
    [undefined, 'undefined'],
    [true, 'a boolean'],
    [{ path: 'a.png' }, 'a value of type Object'],
    [[1, 2], 'a value of type Array'],
    [Object.create(null), 'an object'],
  ])('a value that is no source (%#)', async (value, description) => {
    const error = await failure(value)
    expect(error).toBeInstanceOf(InvalidArgumentError)
    expect(error.message).toContain(`An image is ${description}; expected a path, a URL`)
  })

  it.each([
    [{ width: 0 }, /its width is 0/],
    [{ height: 1.5 }, /its height is 1\.5/],
    [{ width: NaN }, /its width is null|its width is NaN/],
    [{ width: undefined }, /its width is undefined/],
    [{ channels: 5 }, /its channels are 5, not 1 to 4/],
    [{ channels: undefined }, /its channels are undefined/],
    [{ data: [1, 2, 3] }, /its data is a value of type Array, not a Uint8Array/],
    [{ data: new Uint16Array(12) }, /its data is a value of type Uint16Array/],
    [{ data: new Uint8Array(11) }, /its data has 11 bytes, not 2 x 2 x 3 = 12/],
    [{ width: 2 ** 31, height: 2 ** 31 }, /its data has 12 bytes/],
  ])('raw pixels with %j', async (changes, message) => {
    const good = { data: new Uint8Array(12), width: 2, height: 2, channels: 3 }
    const error = await failure({ ...good, ...changes })
    expect(error.code).toBe('ERR_IMAGE_PIXELS')
    expect(error.message).toMatch(message)
  })
})
