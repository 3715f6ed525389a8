import { describe, expect, it } from 'vitest'
import { nearestName } from '../../lib/suggest.js'

const options = ['maxTokens', 'temperature', 'topP', 'topK', 'minPixels', 'maxPixels', 'fps']

describe('nearestName', () => {
  it.each([
    ['maxToken', 'maxTokens'],
    ['max_tokens', 'maxTokens'],
    ['MAX-PIXELS', 'maxPixels'],
    ['maxPixel', 'maxPixels'],
    ['minPixles', 'minPixels'],
    ['temprature', 'temperature'],
    ['tempertaure', 'temperature'],
    ['top_k', 'topK'],
    ['fsp', 'fps'],
    ['topp', 'topP'],
  ])('takes %s for %s', (name, expected) => {
    expect(nearestName(name, options)).toBe(expected)
  })

  it.each(['', 'x', 'detail', 'wholly different', 'maxTokens'.repeat(1000)])(
    'has no suggestion for %.30s',
    (name) => {
      expect(nearestName(name, options)).toBeUndefined()
    },
  )
})
