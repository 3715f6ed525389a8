import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { sniff } from '../../../lib/processor/sniff.js'

const folder = fileURLToPath(new URL('../../golden/images/files/', import.meta.url))

describe('pictures', () => {
  it.each(readdirSync(folder))('%s is one', (name) => {
    expect(sniff(readFileSync(folder + name)).kind).toBe('image')
  })

  it.each(['jpeg', 'png', 'webp', 'gif', 'tiff', 'avif'] as const)(
    'as sharp writes them are known: %s',
    async (format) => {
      const image = sharp({ create: { width: 8, height: 8, channels: 3, background: 'red' } })
      expect(sniff(await image.toFormat(format).toBuffer()).kind).toBe('image')
    },
  )

  it.each([
    '<svg xmlns="http://www.w3.org/2000/svg"/>',
    '\uFEFF<?xml version="1.0"?>\n<!-- made by hand -->\n<svg width="1">',
    '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x"><svg:svg xmlns:svg="y">',
  ])('SVG: %j', (text) => {
    expect(sniff(Buffer.from(text))).toEqual({ kind: 'image', name: 'an SVG image' })
  })
})

describe('what is no picture', () => {
  it.each<[string, string, string]>([
    ['text', 'an HTML page', '<!doctype HTML><p>'],
    ['text', 'an HTML page', '<!-- x --><html><p>'],
    ['text', 'an XML document', '<?xml version="1.0"?><rss/>'],
    ['text', 'JSON', '[{"a":1}]'],
    ['text', 'plain text', 'Not found'],
    ['video', 'an MP4 or QuickTime video', '\0\0\0\x20ftypmp42'],
    ['video', 'a Matroska or WebM video', '\x1aE\xdf\xa3\0'],
    ['video', 'an AVI video', 'RIFF\0\0\0\0AVI LIST'],
    ['unknown', 'something unknown', 'RAFF\0\0\0\0WEBP'],
    ['unknown', 'something unknown', 'G\x40\0\x10'],
    ['other', 'nothing', ''],
  ])('%s: %s (%#)', (kind, name, text) => {
    expect(sniff(Buffer.from(text, 'latin1'))).toEqual({ kind, name })
  })
})
