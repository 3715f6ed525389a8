import { createRequire } from 'node:module'
import type sharpModule from 'sharp'

/** sharp's ES modules need import attributes, which Node 20.9 has not; its CommonJS build runs there. */
export const sharp = createRequire(import.meta.url)('sharp') as typeof sharpModule
