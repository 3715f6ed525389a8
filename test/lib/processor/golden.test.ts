import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { parsePreprocessorConfig } from '../../../lib/checkpoint/preprocessor-config.js'
import { nativeBinding } from '../../../lib/native.js'
import { decodeImage } from '../../../lib/processor/decode.js'
import { prepareImage, type PixelOptions } from '../../../lib/processor/image.js'

/** One picture with options, and what the reference makes of it; see record.py. */
interface Case {
  name: string
  file: string
  options: PixelOptions
  preprocessor: { minPixels: number; maxPixels: number }
  size: [width: number, height: number]
  resized: [width: number, height: number]
  gridThw: [number, number, number]
  sha256: { rgb: string; resized: string; patches: string }
  decision?: string
}

const folder = fileURLToPath(new URL('../../golden/images', import.meta.url))
const cases = JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf8')) as Case[]

function sha256(array: Uint8Array | Float32Array): string {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
  return createHash('sha256').update(bytes).digest('hex')
}

describe('pictures equal the recorded reference bit for bit', () => {
  it.each(cases)('$name', async (recorded) => {
    const file = join(folder, 'files', recorded.file)

    const { pixels, alpha } = await decodeImage(readFileSync(file))
    const decoded = await nativeBinding().prepareImage(pixels, alpha, [])
    expect([decoded.width, decoded.height]).toEqual(recorded.size)
    expect(sha256(decoded.toRgb())).toBe(recorded.sha256.rgb)

    const { minPixels, maxPixels } = recorded.preprocessor
    const preprocessor = parsePreprocessorConfig(
      { min_pixels: minPixels, max_pixels: maxPixels },
      'preprocessor_config.json',
    )
    const item = await prepareImage(file, recorded.options, preprocessor, { index: 0 })
    const [width, height] = recorded.size
    const [resizedWidth, resizedHeight] = recorded.resized
    const tokens = (resizedWidth * resizedHeight) / (28 * 28)
    expect(item.info).toEqual({ width, height, resizedWidth, resizedHeight, tokens })
    expect(item).toMatchObject({ kind: 'image', gridThw: recorded.gridThw, tokens })
    expect(sha256(item.native.frames[0]!.toRgb())).toBe(recorded.sha256.resized)

    const { imageMean, imageStd, rescaleFactor } = preprocessor
    const patches = await nativeBinding().extractPatches(
      item.native,
      imageMean,
      imageStd,
      rescaleFactor,
    )
    expect(patches).toHaveLength(4 * tokens * 1176)
    expect(sha256(patches)).toBe(recorded.sha256.patches)
  })
})
