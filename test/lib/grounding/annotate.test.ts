import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { InvalidArgumentError } from '../../../lib/errors.js'
import { annotate, type Annotation } from '../../../lib/grounding/annotate.js'
import { escapeXml, styleFor, toSvg, type Shape } from '../../../lib/grounding/overlay.js'

/** A grey picture. */
function grey(width: number, height: number) {
  const data = new Uint8Array(width * height * 3).fill(128)
  return { data, width, height, channels: 3 as const }
}

interface Picture {
  width: number
  height: number
  /** As `#rrggbb`. */
  at(x: number, y: number): string
}

async function decoded(file: Buffer): Promise<Picture> {
  const { data, info } = await sharp(file).raw().toBuffer({ resolveWithObject: true })
  expect(info.channels).toBe(3)
  const { width, height } = info
  const at = (x: number, y: number) =>
    `#${data.subarray(3 * (y * width + x), 3 * (y * width + x) + 3).toString('hex')}`
  return { width, height, at }
}

const box = { kind: 'box', label: 'cat', x1: 40, y1: 60, x2: 120, y2: 100 } as const

describe('annotate', () => {
  const options = { colors: ['#ff0000', '#00ff00'], lineWidth: 4, labels: false }

  it('draws a box where it is, and nothing elsewhere', async () => {
    const picture = await decoded(await annotate(grey(200, 150), [box], options))
    expect(picture).toMatchObject({ width: 200, height: 150 })
    for (const [x, y] of [
      [40, 80],
      [120, 80],
      [80, 60],
      [80, 100],
      [38, 58],
      [121, 101],
    ] as const) {
      expect(picture.at(x, y)).toBe('#ff0000')
    }
    for (const [x, y] of [
      [80, 80],
      [36, 80],
      [44, 80],
      [80, 56],
      [80, 104],
      [199, 149],
    ] as const) {
      expect(picture.at(x, y)).toBe('#808080')
    }
  })

  it('gives each label its colour, from the first again after the last', async () => {
    const at = (label: string, x: number): Annotation => {
      return { kind: 'box', label, x1: x, y1: 10, x2: x + 20, y2: 30 }
    }
    const boxes = [at('a', 10), at('b', 50), at('a', 90), at('c', 130)]
    const picture = await decoded(await annotate(grey(200, 50), boxes, options))
    expect([10, 50, 90, 130].map((x) => picture.at(x, 20))).toEqual([
      '#ff0000',
      '#00ff00',
      '#ff0000',
      '#ff0000',
    ])
  })

  it('draws what is on the grid in the size of the picture', async () => {
    const normalized = { x1: 250, y1: 200, x2: 750, y2: 800 }
    const items: Annotation[] = [{ kind: 'box', label: '', normalized }]
    const picture = await decoded(await annotate(grey(200, 100), items, options))
    for (const [x, y] of [
      [50, 50],
      [150, 50],
      [100, 20],
      [100, 80],
    ] as const) {
      expect(picture.at(x, y)).toBe('#ff0000')
    }
  })

  it('draws quads, points, and boxes without an area', async () => {
    const items: Annotation[] = [
      {
        kind: 'quad',
        label: 'q',
        points: [
          { x: 50, y: 10 },
          { x: 90, y: 50 },
          { x: 50, y: 90 },
          { x: 10, y: 50 },
        ],
      },
      { kind: 'point', label: 'p', x: 150, y: 50 },
      { kind: 'box', label: 'q', x1: 180, y1: 20, x2: 180, y2: 80 },
    ]
    const picture = await decoded(await annotate(grey(200, 100), items, options))
    expect(picture.at(70, 30)).toBe('#ff0000')
    expect(picture.at(30, 70)).toBe('#ff0000')
    expect(picture.at(50, 50)).toBe('#808080')
    expect(picture.at(150, 50)).toBe('#00ff00')
    expect(picture.at(180, 50)).toBe('#ff0000')
  })

  it('puts the label on its colour above the box, else below it, else inside', async () => {
    const top = { ...box, x1: 40, y1: 0, x2: 120, y2: 50 }
    const style = { colors: ['#ff0000'], lineWidth: 2, fontSize: 10 }
    const above = await decoded(await annotate(grey(200, 150), [box], style))
    expect(above.at(41, 48)).toBe('#ff0000')
    const below = await decoded(await annotate(grey(200, 150), [top], style))
    expect(below.at(41, 53)).toBe('#ff0000')
    expect(below.at(45, 12)).toBe('#808080')
    const whole = { ...top, y2: 150 }
    const inside = await decoded(await annotate(grey(200, 150), [whole], style))
    expect(inside.at(41, 12)).toBe('#ff0000')
    const none = await decoded(await annotate(grey(200, 150), [box], { ...style, labels: false }))
    expect(none.at(41, 48)).toBe('#808080')
  })

  it('gives a PNG, or a JPEG on demand', async () => {
    const png = await annotate(grey(200, 150), [box])
    expect((await sharp(png).metadata()).format).toBe('png')
    const [small, large] = await Promise.all(
      [10, 95].map((quality) => annotate(grey(200, 150), [box], { format: 'jpeg', quality })),
    )
    expect((await sharp(small).metadata()).format).toBe('jpeg')
    expect(small!.length).toBeLessThan(large!.length)
  })

  it('leaves the picture as the model sees it where there is nothing to draw', async () => {
    const rgba = await sharp({
      create: { width: 4, height: 2, channels: 4, background: { r: 0, g: 0, b: 0, alpha: 0 } },
    })
      .png()
      .toBuffer()
    const picture = await decoded(await annotate(rgba, []))
    expect(picture).toMatchObject({ width: 4, height: 2 })
    expect(picture.at(1, 1)).toBe('#ffffff')
  })

  it('follows EXIF orientation only where told to, as the model does', async () => {
    const turned = await sharp(grey(20, 10).data, { raw: { width: 20, height: 10, channels: 3 } })
      .withMetadata({ orientation: 6 })
      .jpeg()
      .toBuffer()
    expect(await decoded(await annotate(turned, []))).toMatchObject({ width: 20, height: 10 })
    const upright = await annotate(turned, [], { exif: 'apply' })
    expect(await decoded(upright)).toMatchObject({ width: 10, height: 20 })
  })

  it('draws hostile labels as the text they are', async () => {
    const labels = [
      '</text></svg>',
      '<image href="file:///etc/passwd" width="200" height="150"/>',
      '"><script>&lt;&bogus;',
      '\u0000\u0001\ud800 \u{1F600} 猫',
      '<![CDATA[',
    ]
    const boxes = labels.map((label) => ({ ...box, label }))
    const picture = await decoded(await annotate(grey(200, 150), boxes, { lineWidth: 4 }))
    expect(picture.at(190, 140)).toBe('#808080')
  })

  it.each<[string, unknown, unknown, string, RegExp]>([
    ['no list', 'boxes', {}, 'boxes', /a list of boxes/],
    ['no box', [box, null], {}, 'boxes[1]', /boxes\[1\] is no box/],
    ['a missing corner', [{ ...box, y2: undefined }], {}, 'boxes[0]', /no box/],
    ['an infinite corner', [{ ...box, y2: Infinity }], {}, 'boxes[0]', /no box/],
    ['no label', [{ ...box, label: undefined }], {}, 'boxes[0]', /no box/],
    ['an unknown kind', [{ ...box, kind: 'circle' }], {}, 'boxes[0]', /no box/],
    ['three corners', [{ kind: 'quad', label: '', points: [] }], {}, 'boxes[0]', /no box/],
    ['nothing of a place', [{ kind: 'point', label: '' }], {}, 'boxes[0]', /no box/],
    ['a misspelt option', [], { colours: [] }, 'colours', /Did you mean 'colors'\?/],
    ['an unknown option', [], { shadow: 1 }, 'shadow', /The options are: format, /],
    ['a format', [], { format: 'gif' }, 'format', /'png' or 'jpeg'/],
    ['a colour with markup', [], { colors: ['#00"/>'] }, 'colors', /such as '#ff0000'/],
    ['a line of no width', [], { lineWidth: 0 }, 'lineWidth', /above 0/],
    ['a quality of a PNG', [], { quality: 50 }, 'quality', /belongs to format: 'jpeg'/],
    ['a quality of 0', [], { format: 'jpeg', quality: 0 }, 'quality', /from 1 to 100/],
  ])('refuses %s', async (_, boxes, options, path, message) => {
    const drawing = annotate(grey(4, 4), boxes as Annotation[], options as object)
    const error: unknown = await drawing.catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(InvalidArgumentError)
    expect(error).toMatchObject({ path, message: expect.stringMatching(message) as string })
  })

  it('says what is wrong with a picture', async () => {
    await expect(annotate('no-such.png', [])).rejects.toMatchObject({
      code: 'ERR_IMAGE_NOT_FOUND',
      message: expect.stringMatching(/^The image: there is no file no-such.png/) as string,
    })
    await expect(annotate(Buffer.from('x'), [])).rejects.toMatchObject({ code: 'ERR_IMAGE_DECODE' })
    await expect(annotate(grey(32_768, 1), [])).rejects.toMatchObject({
      code: 'ERR_IMAGE_TOO_LARGE',
    })
  })

  it('ends with its signal', async () => {
    const reason = new Error('enough')
    const signal = AbortSignal.abort(reason)
    await expect(annotate(grey(4, 4), [box], { signal })).rejects.toBe(reason)
  })
})

describe('the drawing', () => {
  it('is well-formed whatever the label, and never contains its markup', () => {
    const size = { width: 100, height: 100 }
    const label = `<b a="1" b='2'>&amp;\u0007\ud800`
    const shapes: Shape[] = [{ kind: 'point', label, x: 1, y: 2 }]
    const svg = toSvg(size, shapes, styleFor(size))
    expect(svg).toContain(
      '>&lt;b a=&quot;1&quot; b=&apos;2&apos;&gt;&amp;amp;\ufffd\ufffd</text></svg>',
    )
    expect(svg).not.toContain('<b')
  })

  it('cuts long labels between characters', () => {
    const size = { width: 100, height: 100 }
    const svg = toSvg(
      size,
      [{ kind: 'point', label: '😀'.repeat(100), x: 1, y: 2 }],
      styleFor(size),
    )
    expect(svg).toContain(`>${'😀'.repeat(59)}…</text>`)
  })

  it('scales with the picture', () => {
    expect(styleFor({ width: 100, height: 50 })).toMatchObject({ lineWidth: 2, fontSize: 11 })
    expect(styleFor({ width: 3200, height: 4500 })).toMatchObject({ lineWidth: 14, fontSize: 100 })
  })

  it('leaves plain text as it is', () => {
    expect(escapeXml('a cat, 猫, 😀\t')).toBe('a cat, 猫, 😀\t')
  })
})
