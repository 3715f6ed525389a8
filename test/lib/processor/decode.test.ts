import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import type { ImageError } from '../../../lib/errors.js'
import { decodeImage, type DecodedImage } from '../../../lib/processor/decode.js'
import { DEFAULT_MEDIA_OPTIONS } from '../../../lib/processor/media-options.js'

const read = (name: string) =>
  readFile(fileURLToPath(new URL(`../../golden/images/files/${name}`, import.meta.url)))

const decode = (bytes: Uint8Array, maxImagePixels = DEFAULT_MEDIA_OPTIONS.maxImagePixels) =>
  decodeImage(bytes, { ...DEFAULT_MEDIA_OPTIONS, maxImagePixels })

async function failure(bytes: Uint8Array, maxPixels?: number): Promise<ImageError> {
  return decode(bytes, maxPixels).then(
    () => expect.fail('the picture was decoded'),
    (error: unknown) => error as ImageError,
  )
}

// Equality of the samples themselves is the subject of golden.test.ts.
describe('transparency', () => {
  it.each([
    'alpha.png',
    'alpha-16-bit.png',
    'grey-alpha-16-bit.png',
    'lossless-alpha.webp',
    'alpha.tif',
  ])('counts in %s', async (name) => {
    const { alpha, pixels } = await decode(await read(name))
    expect(alpha).toBe('composite')
    expect(pixels.channels).toBe(4)
  })

  it.each([
    'grey-alpha.png',
    'grey-transparent.png',
    'rgb-colour-key.png',
    'palette-transparent.png',
    'transparent.gif',
  ])('is ignored in %s, as the reference does', async (name) => {
    expect((await decode(await read(name))).alpha).toBe('drop')
  })

  it('of a GIF is ignored without a change to the bytes of the caller', async () => {
    const bytes = await read('transparent.gif')
    const before = Buffer.from(bytes)
    const { pixels } = await decode(bytes)
    expect(pixels.channels).toBe(3)
    expect(bytes.equals(before)).toBe(true)
  })
})

describe('alpha: drop', () => {
  it.each(['alpha.png', 'lossless-alpha.webp', 'grey-alpha-16-bit.png'])(
    'ignores the transparency of %s and shows the colours as stored',
    async (name) => {
      const bytes = await read(name)
      const dropped = await decodeImage(bytes, { ...DEFAULT_MEDIA_OPTIONS, alpha: 'drop' })
      const composited = await decode(bytes)
      expect(dropped.alpha).toBe('drop')
      expect(dropped.pixels).toEqual(composited.pixels)
    },
  )
})

describe('EXIF orientation', () => {
  // 3 x 2 pixels of different levels, so that each of the eight ways to lie gives another order.
  const levels = [10, 50, 90, 130, 170, 210]
  const upright: Record<number, string> = {
    1: '10 50 90 / 130 170 210',
    2: '90 50 10 / 210 170 130',
    3: '210 170 130 / 90 50 10',
    4: '130 170 210 / 10 50 90',
    5: '10 130 / 50 170 / 90 210',
    6: '130 10 / 170 50 / 210 90',
    7: '210 90 / 170 50 / 130 10',
    8: '90 210 / 50 170 / 10 130',
  }
  const picture = (orientation: number) =>
    sharp(Uint8Array.from(levels.flatMap((level) => [level, level, level])), {
      raw: { width: 3, height: 2, channels: 3 },
    })
      .withMetadata({ orientation })
      .webp({ lossless: true })
      .toBuffer()
  const rows = ({ pixels: { data, width, height, channels } }: DecodedImage) =>
    Array.from({ length: height }, (_, y) =>
      Array.from({ length: width }, (_, x) => data[(y * width + x) * channels]).join(' '),
    ).join(' / ')

  it.each([1, 2, 3, 4, 5, 6, 7, 8])('%i is ignored unless asked for', async (orientation) => {
    const bytes = await picture(orientation)
    expect(rows(await decode(bytes))).toEqual(upright[1])
    const turned = await decodeImage(bytes, { ...DEFAULT_MEDIA_OPTIONS, exif: 'apply' })
    expect(rows(turned)).toEqual(upright[orientation])
  })
})

describe('kinds without a counterpart in the reference', () => {
  it('16-bit grey gives its high bytes', async () => {
    const samples = Uint16Array.from([0, 0x00ff, 0x0100, 0x12ff, 0x8000, 0xffff])
    const png = await sharp(samples, { raw: { width: 6, height: 1, channels: 1 } })
      .toColourspace('grey16')
      .png()
      .toBuffer()
    const { pixels } = await decode(png)
    const first = [...pixels.data].filter((_, i) => i % pixels.channels === 0)
    expect(first).toEqual([0, 0, 1, 0x12, 0x80, 0xff])
  })

  it('SVG is drawn at its own size; what it leaves open becomes white', async () => {
    const svg =
      '<svg xmlns="http://www.w3.org/2000/svg" width="60" height="40">' +
      '<rect width="30" height="40" fill="#ff0000"/></svg>'
    const { pixels, alpha } = await decode(Buffer.from(svg))
    expect(pixels).toMatchObject({ width: 60, height: 40, channels: 4, cmyk: false })
    expect([...pixels.data.subarray(0, 4)]).toEqual([255, 0, 0, 255])
    expect([...pixels.data.subarray(59 * 4, 60 * 4)]).toEqual([0, 0, 0, 0])
    expect(alpha).toBe('composite')
  })

  it('AVIF is decoded by another library, so within a few levels', async () => {
    const { pixels } = await decode(await read('colour.avif'))
    const original = await decode(await read('lzw.tif'))
    expect(pixels).toMatchObject({ width: 61, height: 45, channels: 3 })
    let difference = 0
    for (const [i, value] of pixels.data.entries()) {
      difference += Math.abs(value - original.pixels.data[i]!)
    }
    expect(difference / pixels.data.length).toBeLessThan(4)
  })
})

describe('CMYK', () => {
  it.each(['cmyk-adobe.jpg', 'cmyk-plain.jpg', 'ycck.jpg', 'cmyk.tif'])(
    'of %s reaches the core unconverted',
    async (name) => {
      const { pixels } = await decode(await read(name))
      expect(pixels).toMatchObject({ cmyk: true, channels: 4 })
    },
  )
})

describe('damaged files', () => {
  it.each([
    'odd-420.jpg',
    'progressive.jpg',
    'cmyk-adobe.jpg',
    'rgb.png',
    'interlaced.png',
    'palette.gif',
    'lossy.webp',
    'lzw.tif',
    'colour.avif',
  ])('%s cut in the middle is refused', async (name) => {
    const bytes = await read(name)
    const error = await failure(bytes.subarray(0, bytes.length / 2))
    expect(error.code).toBe('ERR_IMAGE_DECODE')
    expect(error.message).toMatch(/bytes cannot be decoded \(.+\)\. Send a whole JPEG, PNG/)
  })

  it('a JPEG without its last bytes is refused', async () => {
    const bytes = await read('odd-420.jpg')
    expect((await failure(bytes.subarray(0, -2))).code).toBe('ERR_IMAGE_DECODE')
  })

  it('a PNG with a wrong checksum in its pixels is refused', async () => {
    const bytes = Buffer.from(await read('rgb.png'))
    const middle = bytes.length >> 1
    bytes.writeUInt8(bytes.readUInt8(middle) ^ 0x55, middle)
    expect((await failure(bytes)).code).toBe('ERR_IMAGE_DECODE')
  })

  it('bytes after the end of a picture do not matter', async () => {
    const bytes = await read('odd-420.jpg')
    const { pixels } = await decode(Buffer.concat([bytes, Buffer.from('trailing')]))
    expect(pixels.data).toEqual((await decode(bytes)).pixels.data)
  })

  it.each([
    ['text', Buffer.from('no picture at all')],
    ['one byte', Buffer.from([0])],
    ['a PNG signature alone', Buffer.from('89504e470d0a1a0a', 'hex')],
    [
      'a GIF whose blocks run beyond its end',
      Buffer.from('GIF89a\x01\0\x01\0\0\0\0!\xf9\xff', 'latin1'),
    ],
    ['a JPEG start alone', Buffer.from('ffd8ff', 'hex')],
  ])('%s is refused', async (_, bytes) => {
    expect((await failure(bytes)).code).toBe('ERR_IMAGE_DECODE')
  })
})

describe('the pixel limit', () => {
  it('is 268,435,456 by default', () =>
    expect(DEFAULT_MEDIA_OPTIONS.maxImagePixels).toBe(268_435_456))

  it('allows a picture of exactly that many pixels and no more', async () => {
    const bytes = await read('rgb.png') // 37 x 29
    await expect(decode(bytes, 37 * 29)).resolves.toBeDefined()
    const error = await failure(bytes, 37 * 29 - 1)
    expect(error.code).toBe('ERR_IMAGE_TOO_LARGE')
    expect(error.details).toEqual({ width: 37, height: 29, limit: 1072 })
    expect(error.message).toMatch(/37 x 29 = 1,073 pixels; at most 1,072 are decoded/)
  })

  it('is looked at before anything is decoded', async () => {
    // A header that promises 60000 x 60000 pixels, and next to nothing behind it.
    const bomb = Buffer.from(await read('rgb.png'))
    bomb.writeUInt32BE(60000, 16)
    bomb.writeUInt32BE(60000, 20)
    bomb.writeUInt32BE(crc32(bomb.subarray(12, 29)), 29)
    const error = await failure(bomb)
    expect(error.code).toBe('ERR_IMAGE_TOO_LARGE')
    expect(error.details).toMatchObject({ width: 60000, height: 60000 })
  })
})

/** The checksum of PNG chunks; zlib.crc32 is younger than the oldest Node we run on. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) * 0xedb88320)
  }
  return ~crc >>> 0
}
