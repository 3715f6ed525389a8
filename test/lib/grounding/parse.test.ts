import { describe, expect, it } from 'vitest'
import type { InvalidArgumentError } from '../../../lib/errors.js'
import { scaleTo } from '../../../lib/grounding/geometry.js'
import { parseBoxes, parseGrounding, parseMarked } from '../../../lib/grounding/parse.js'

const ref = (label: string) => `<|object_ref_start|>${label}<|object_ref_end|>`
const box = (coordinates: string) => `<|box_start|>${coordinates}<|box_end|>`
const quad = (coordinates: string) => `<|quad_start|>${coordinates}<|quad_end|>`

const boxItem = (label: string, x1: number, y1: number, x2: number, y2: number) => ({
  kind: 'box',
  label,
  normalized: { x1, y1, x2, y2 },
})

describe('parseGrounding', () => {
  it('takes a labelled box out and leaves its label', () => {
    expect(parseGrounding(`There: ${ref('the blue circle')}${box('(750,50),(950,250)')}.`)).toEqual(
      {
        text: 'There: the blue circle.',
        items: [boxItem('the blue circle', 750, 50, 950, 250)],
      },
    )
  })

  it('gives one label to all boxes that follow it', () => {
    const text = `${ref('dogs')}${box('(1,2),(3,4)')}${box('(5,6),(7,8)')}, ${box('(9,10),(11,12)')}${ref('cat')}${box('(13,14),(15,16)')}`
    expect(parseGrounding(text)).toEqual({
      text: 'dogs, cat',
      items: [
        boxItem('dogs', 1, 2, 3, 4),
        boxItem('dogs', 5, 6, 7, 8),
        boxItem('dogs', 9, 10, 11, 12),
        boxItem('cat', 13, 14, 15, 16),
      ],
    })
  })

  it('carries a label over words to its first box, but not past words after that', () => {
    const text = `The ${ref('dog')} is at ${box('(1,2),(3,4)')}, a tree at ${box('(5,6),(7,8)')}`
    expect(parseGrounding(text)).toEqual({
      text: 'The dog is at , a tree at ',
      items: [boxItem('dog', 1, 2, 3, 4), boxItem('', 5, 6, 7, 8)],
    })
  })

  it('tells points and quads from boxes', () => {
    const text = `${ref('button')}${box('(12,34)')}${ref('sign')}${quad('(1,2),(3,4),(5,6),(7,8)')}`
    expect(parseGrounding(text).items).toEqual([
      { kind: 'point', label: 'button', normalized: { x: 12, y: 34 } },
      {
        kind: 'quad',
        label: 'sign',
        normalized: {
          points: [
            { x: 1, y: 2 },
            { x: 3, y: 4 },
            { x: 5, y: 6 },
            { x: 7, y: 8 },
          ],
        },
      },
    ])
  })

  it.each([
    ['spaces and decimals', box(' ( 1.5 , 2 ) , (3, 4.25) '), [boxItem('', 1.5, 2, 3, 4.25)]],
    ['no comma between', box('(1,2)(3,4)'), [boxItem('', 1, 2, 3, 4)]],
    ['corners in the other order', box('(9,8),(1,2)'), [boxItem('', 9, 8, 1, 2)]],
    ['numbers outside the grid', box('(-5,2),(1200,4)'), [boxItem('', -5, 2, 1200, 4)]],
  ])('reads %s as written', (_, text, items) => {
    expect(parseGrounding(text)).toEqual({ text: '', items })
  })

  it.each([
    ['one number missing', box('(1,2),(3)')],
    ['three corners', box('(1,2),(3,4),(5,6)')],
    ['four corners in a box', box('(1,2),(3,4),(5,6),(7,8)')],
    ['two corners in a quad', quad('(1,2),(3,4)')],
    ['words in it', box('(1,2),(3,4) or so')],
    ['nothing in it', box('')],
    ['an endless number', box(`(${'9'.repeat(400)},2),(3,4)`)],
    ['letters for digits', box('(l,2),(3,4)')],
    ['an opening marker alone', '<|box_start|>(1,2),(3,4)'],
    ['a closing marker alone', '(1,2),(3,4)<|box_end|>'],
    ['the wrong closing marker', '<|box_start|>(1,2),(3,4)<|quad_end|>'],
    ['a label that never ends', '<|object_ref_start|>the cat (1,2),(3,4)'],
  ])('keeps a box with %s as text', (_, malformed) => {
    expect(parseGrounding(`a${malformed}b`)).toEqual({ text: `a${malformed}b`, items: [] })
  })

  it('finds the whole box behind a broken one', () => {
    expect(parseGrounding(`<|box_start|>(1,${box('(1,2),(3,4)')}<|box_end|>`)).toEqual({
      text: '<|box_start|>(1,<|box_end|>',
      items: [boxItem('', 1, 2, 3, 4)],
    })
  })

  it('takes no longer for a hundred thousand broken markers than it must', () => {
    const text = '<|object_ref_start|><|box_start|>(1,2),(3,4)'.repeat(50_000)
    const begin = performance.now()
    expect(parseGrounding(text)).toEqual({ text, items: [] })
    expect(performance.now() - begin).toBeLessThan(2000)
  })

  it('never throws, and finds in a beginning what it finds in the whole', () => {
    const pieces = [
      ...['<|object_ref_start|>', '<|object_ref_end|>', '<|box_start|>', '<|box_end|>'],
      ...['<|quad_start|>', '<|quad_end|>', '(1,2)', ',', '(3,4),(5,6)', '(7', 'a cat', '\n', '😀'],
      ...['<|box_start|>(1,2),(3,4)<|box_end|>', '<|box_start|>(1,2)<|box_end|>'],
    ]
    let state = 1
    const random = (below: number) => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0
      return (state >>> 8) % below
    }
    let numFound = 0
    for (let round = 0; round < 3000; round++) {
      const parts = Array.from({ length: 1 + random(16) }, () => pieces[random(pieces.length)]!)
      const { items } = parseGrounding(parts.join(''))
      const { found } = parseMarked(parts.join(''))
      if (/<[|](object_ref|box|quad)_/.test(parts.join(''))) {
        expect(items).toEqual(found.map(({ item }) => item))
      }
      numFound += found.length
      for (let length = 0; length < parts.length; length++) {
        const beginning = parseMarked(parts.slice(0, length).join('')).found
        expect(found.slice(0, beginning.length)).toEqual(beginning)
      }
    }
    expect(numFound).toBeGreaterThan(100)
  })

  describe('without markers', () => {
    it.each([
      [
        'the blue circle(750,50),(950,250)',
        'the blue circle',
        [boxItem('the blue circle', 750, 50, 950, 250)],
      ],
      [
        'dogs(1,2),(3,4)(5,6),(7,8), cat(9,10),(11,12)',
        'dogs, cat',
        [boxItem('dogs', 1, 2, 3, 4), boxItem('dogs', 5, 6, 7, 8), boxItem('cat', 9, 10, 11, 12)],
      ],
      [
        'Two:\ncat(1,2),(3,4)\n(5,6),(7,8)',
        'Two:\ncat\n',
        [boxItem('cat', 1, 2, 3, 4), boxItem('', 5, 6, 7, 8)],
      ],
    ])('reads %j', (raw, text, items) => {
      expect(parseGrounding(raw)).toEqual({ text, items })
    })

    it('reads four corners as a quad', () => {
      expect(parseGrounding('sign(1,2),(3,4),(5,6),(7,8)').items).toMatchObject([
        { kind: 'quad', label: 'sign' },
      ])
    })

    it.each(['f(1,2)', 'at (3,4)', 'a(1,2),(3,1001)', 'b(1,2), (3,4)', 'c(1,2),(3,4),(5,6)', ''])(
      'leaves %j alone',
      (text) => expect(parseGrounding(text)).toEqual({ text, items: [] }),
    )
  })
})

describe('parseBoxes', () => {
  const answer = `${ref('boy')}${box('(228,320),(961,970)')}`

  it('gives pixels of the original picture', () => {
    const [found] = parseBoxes(answer, { width: 640, height: 428 })
    expect(found).toEqual({
      kind: 'box',
      label: 'boy',
      x1: 145.92,
      y1: 136.96,
      x2: 615.04,
      y2: 415.16,
      normalized: { x1: 228, y1: 320, x2: 961, y2: 970 },
    })
    expect(parseBoxes(answer, { image: { width: 640, height: 428 } })).toEqual([found])
    const raw = { data: new Uint8Array(3), width: 640, height: 428, channels: 3 }
    expect(parseBoxes(answer, { image: raw })).toEqual([found])
  })

  it('moves what is outside to the edge and puts corners in order', () => {
    expect(parseBoxes(box('(1200,900),(-40,100)'), { width: 50, height: 100 })).toEqual([
      {
        kind: 'box',
        label: '',
        x1: 0,
        y1: 10,
        x2: 50,
        y2: 90,
        normalized: { x1: 1200, y1: 900, x2: -40, y2: 100 },
      },
    ])
    expect(parseBoxes(box('(1001,-1)'), { width: 50, height: 100 })).toMatchObject([
      { kind: 'point', x: 50, y: 0 },
    ])
    expect(
      parseBoxes(quad('(0,0),(500,0),(2000,1000),(0,1000)'), { width: 10, height: 20 }),
    ).toMatchObject([
      {
        kind: 'quad',
        points: [
          { x: 0, y: 0 },
          { x: 5, y: 0 },
          { x: 10, y: 20 },
          { x: 0, y: 20 },
        ],
      },
    ])
  })

  it.each([
    ['nothing', undefined, 'image'],
    ['an encoded picture', { image: Buffer.from('x') }, 'image'],
    ['a path', { image: 'a.png' }, 'image'],
    ['a width of 0', { width: 0, height: 5 }, 'width'],
    ['a height as text', { width: 5, height: '5' }, 'height'],
  ])('refuses %s', (_, options, path) => {
    expect(() => parseBoxes(answer, options as never)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', path }) as InvalidArgumentError,
    )
  })
})

describe('scaleTo', () => {
  it('scales one item to any size', () => {
    const [item] = parseGrounding(box('(0,0),(1000,500)')).items
    expect(scaleTo(item!, { width: 8, height: 4 })).toMatchObject({ x1: 0, y1: 0, x2: 8, y2: 2 })
    expect(() => scaleTo(item!, { width: 1.5, height: 4 })).toThrow(/width is 1.5; expected/)
  })
})
