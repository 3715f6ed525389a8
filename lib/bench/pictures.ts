/** Synthetic pictures for benchmarks, and the time from a JPEG file to patches. */
import type { PreprocessorConfig } from '../checkpoint/checkpoint.js'
import { nativeBinding } from '../native.js'
import { prepareImage } from '../processor/image.js'
import { sharp } from '../processor/sharp.js'
import type { RawPixels } from '../processor/source.js'
import type { Measurement } from './report.js'
import { secondsOf, type Stopwatch } from './stopwatch.js'

/** Smooth shapes with some noise, as photographs have them. */
export function makePicture(width: number, height: number): RawPixels {
  const data = new Uint8Array(width * height * 3)
  let noise = 1
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i += 3) {
      noise = (noise * 1103515245 + 12345) & 0x7fffffff
      const grain = (noise >> 16) % 12
      data[i] = 120 + 90 * Math.sin(x / 97) + grain
      data[i + 1] = 120 + 90 * Math.sin(y / 61) + grain
      data[i + 2] = 120 + 90 * Math.sin((x + y) / 143) + grain
    }
  }
  return { data, width, height, channels: 3 }
}

/** Time of the decoder alone, and of the way from a JPEG file of this size to patches. */
export async function measurePreparation(
  stopwatch: Stopwatch,
  preprocessor: PreprocessorConfig,
  width: number,
  height: number,
): Promise<Measurement[]> {
  const { data } = makePicture(width, height)
  const jpeg = await sharp(data, { raw: { width, height, channels: 3 } })
    .jpeg({ quality: 85 })
    .toBuffer()
  const decode = () => sharp(jpeg).raw().toBuffer()
  const { info } = await prepareImage(jpeg, {}, preprocessor, { index: 0 })
  const patches = info.resizedWidth * info.resizedHeight * 3 * 2 * 4 // two frames, fp32
  const size = `${width}×${height}`
  const rows: [name: string, run: () => Promise<unknown>, bytes: number][] = [
    [`image preparation ${size}, JPEG decoder alone`, decode, data.length],
    [
      `image preparation ${size}, JPEG to patches`,
      () => toPatches(jpeg, preprocessor),
      data.length + patches,
    ],
  ]
  const measurements: Measurement[] = []
  for (const [name, run, bytes] of rows) {
    await run()
    const timed = await stopwatch.time(() => secondsOf(run))
    const work = { bytes, fp32: 0, int8: 0 }
    measurements.push({ section: 'model', name, timed, unit: 'ms', work, isOfHost: true })
  }
  return measurements
}

async function toPatches(jpeg: Uint8Array, preprocessor: PreprocessorConfig): Promise<void> {
  const { imageMean, imageStd, rescaleFactor } = preprocessor
  const { native } = await prepareImage(jpeg, {}, preprocessor, { index: 0 })
  await nativeBinding().extractPatches(native, imageMean, imageStd, rescaleFactor)
}
