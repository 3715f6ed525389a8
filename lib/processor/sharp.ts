import { createRequire } from 'node:module'
import type sharpModule from 'sharp'
import type { Sharp, SharpInput, SharpOptions } from 'sharp'
import { BackendError } from '../errors.js'

let loaded: typeof sharpModule | undefined

/** sharp, loaded with the first picture: its native library is not to be a cost of the import. */
export function sharp(input: SharpInput, options: SharpOptions = {}): Sharp {
  return (loaded ??= load())(input, options)
}

function load(): typeof sharpModule {
  try {
    // sharp's ES modules need import attributes, which Node 20.9 has not; its CommonJS build runs there.
    return createRequire(import.meta.url)('sharp') as typeof sharpModule
  } catch (cause) {
    throw new BackendError(
      'ERR_NO_BINARY',
      `Pictures are decoded by sharp, which cannot be loaded here: ${(cause as Error).message.trim()}. ` +
        'Its binary is an optional dependency: install with "npm install --include=optional sharp".',
      { cause, details: { platform: `${process.platform}-${process.arch}`, tried: 'sharp' } },
    )
  }
}
