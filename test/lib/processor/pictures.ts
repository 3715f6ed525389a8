/** Pictures and checks that tests of images and videos share. */
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import { parsePreprocessorConfig } from '../../../lib/checkpoint/preprocessor-config.js'
import type { ImageError } from '../../../lib/errors.js'
import type { RawPixels } from '../../../lib/processor/source.js'

/** The published preprocessor's limits. */
export const published = parsePreprocessorConfig(
  { max_pixels: 12845056 },
  'preprocessor_config.json',
)
/** A file of the recorded pictures. */
export const file = (name: string) =>
  fileURLToPath(new URL(`../../golden/images/files/${name}`, import.meta.url))

/** One colour, `width` x `height`. */
export function plain(width: number, height: number, colour: number[]): RawPixels {
  const data = Uint8Array.from({ length: width * height * colour.length }, (_, i) => {
    return colour[i % colour.length]!
  })
  return { data, width, height, channels: colour.length as RawPixels['channels'] }
}

/** What a preparation that must be refused rejects with. */
export async function failure(prepared: Promise<unknown>): Promise<ImageError> {
  return prepared.then(
    () => expect.fail('it was accepted'),
    (error: unknown) => error as ImageError,
  )
}
