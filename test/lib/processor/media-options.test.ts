import { describe, expect, it } from 'vitest'
import {
  DEFAULT_MEDIA_OPTIONS,
  processorLimits,
  toMediaOptions,
} from '../../../lib/processor/media-options.js'

const file = { minPixels: 3136, maxPixels: 12845056 }

describe('the limits of the processor', () => {
  it.each([
    ["are the file's", {}, {}, [3136, 12845056]],
    ["are the model's where it has some", {}, { minPixels: 5000, maxPixels: 9000 }, [5000, 9000]],
    ['are mixed', {}, { maxPixels: 9000 }, [3136, 9000]],
    [
      "are the file's for a maximum of the image",
      { maxPixels: 1e5 },
      { maxPixels: 9000 },
      [3136, 12845056],
    ],
    ['keep the other one of the model', { maxPixels: 1e5 }, { minPixels: 5000 }, [5000, 12845056]],
    [
      'leave out what contradicts the image',
      { maxPixels: 4000 },
      { minPixels: 5000 },
      [3136, 12845056],
    ],
    [
      'leave out what contradicts it from above',
      { minPixels: 8000 },
      { maxPixels: 5000 },
      [3136, 12845056],
    ],
    ['keep the order', { minPixels: 2000 }, { maxPixels: 3000 }, [3000, 3000]],
    [
      "are the file's for an image with a size",
      { resizedHeight: 9, resizedWidth: 9 },
      { minPixels: 5000, maxPixels: 9000 },
      [3136, 12845056],
    ],
  ])('%s', (_, item, model, [minPixels, maxPixels]) => {
    expect(processorLimits(item, model, file)).toEqual({ minPixels, maxPixels })
  })
})

describe('toMediaOptions', () => {
  it('fills in the defaults', () => {
    expect(toMediaOptions({})).toEqual(DEFAULT_MEDIA_OPTIONS)
    expect(DEFAULT_MEDIA_OPTIONS).toMatchObject({
      maxImageBytes: 67_108_864,
      maxImagePixels: 268_435_456,
      allowUrls: true,
      allowFiles: true,
      allowPrivateHosts: false,
      alpha: 'composite',
      exif: 'ignore',
    })
  })

  it('keeps what was given', () => {
    const given = {
      ...{ minPixels: 1, maxPixels: 2, maxImageBytes: 3, maxImagePixels: 4, fetchTimeoutMs: 5 },
      ...{ allowUrls: false, allowFiles: false, allowPrivateHosts: true, allowedHosts: ['a.test'] },
      ...{ alpha: 'drop' as const, exif: 'apply' as const },
    }
    expect(toMediaOptions(given)).toMatchObject(given)
  })
})
