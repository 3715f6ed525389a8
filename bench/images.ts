/**
 * From JPEG files to patches: how long it takes beside the decoder alone, one at a time and 8 at once.
 * `npx tsx bench/images.ts`
 */
import { cpus } from 'node:os'
import { performance } from 'node:perf_hooks'
import sharp from 'sharp'
import { parsePreprocessorConfig } from '../lib/checkpoint/preprocessor-config.js'
import { nativeBinding } from '../lib/native.js'
import { decodeImage } from '../lib/processor/decode.js'
import { prepareImage } from '../lib/processor/image.js'

const preprocessor = parsePreprocessorConfig({ max_pixels: 12845056 }, 'preprocessor_config.json')
const { imageMean, imageStd, rescaleFactor } = preprocessor

/** Smooth shapes with some noise, as photographs have them: 4:2:0, quality 85. */
function photo(width: number, height: number): Promise<Buffer> {
  const data = Buffer.alloc(width * height * 3)
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
  return sharp(data, { raw: { width, height, channels: 3 } })
    .jpeg({ quality: 85 })
    .toBuffer()
}

async function toPatches(jpeg: Uint8Array): Promise<void> {
  const { native } = await prepareImage(jpeg, {}, preprocessor, { index: 0 })
  await nativeBinding().extractPatches(native, imageMean, imageStd, rescaleFactor)
}

async function resizeAlone(jpeg: Uint8Array): Promise<() => Promise<void>> {
  const { pixels, alpha } = await decodeImage(jpeg)
  const { info } = await prepareImage(jpeg, {}, preprocessor, { index: 0 })
  const sizes = [{ width: info.resizedWidth, height: info.resizedHeight }]
  return async () => {
    await nativeBinding().prepareImage(pixels, alpha, sizes)
  }
}

/** The best of some rounds of `count` at once, in milliseconds for one; and the processor time of one. */
async function time(
  run: () => Promise<unknown>,
  count = 1,
): Promise<{ wall: number; processor: number }> {
  await run()
  const best = { wall: Infinity, processor: Infinity }
  for (let round = 0; round < 7; round++) {
    const usage = process.cpuUsage()
    const start = performance.now()
    await Promise.all(Array.from({ length: count }, run))
    const { user, system } = process.cpuUsage(usage)
    best.wall = Math.min(best.wall, (performance.now() - start) / count)
    best.processor = Math.min(best.processor, (user + system) / 1000 / count)
  }
  return best
}

const { model = 'unknown processor' } = cpus()[0] ?? {}
console.log(`${model}, ${cpus().length} processors; milliseconds for one picture, best of 7\n`)
for (const [width, height] of [
  [1024, 768],
  [3840, 2160],
] as const) {
  const jpeg = await photo(width, height)
  const rows: [name: string, run: () => Promise<unknown>, count: number][] = [
    ['sharp decode alone', () => sharp(jpeg).raw().toBuffer(), 1],
    ['decode as the reference does', () => decodeImage(jpeg), 1],
    ['resize alone', await resizeAlone(jpeg), 1],
    ['JPEG to patches', () => toPatches(jpeg), 1],
    ['JPEG to patches, 8 at once', () => toPatches(jpeg), 8],
  ]
  console.log(`${width} x ${height}, ${(jpeg.length / 1024).toFixed(0)} KiB`)
  for (const [name, run, count] of rows) {
    const { wall, processor } = await time(run, count)
    const figures = `${wall.toFixed(1).padStart(8)} wall  ${processor.toFixed(1).padStart(8)} processor`
    console.log(`  ${name.padEnd(30)}${figures}`)
  }
}
