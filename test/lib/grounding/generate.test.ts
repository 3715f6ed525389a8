import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  loadModel,
  parseBoxes,
  scaleTo,
  type ContentPart,
  type GenerationEvent,
  type ImagePart,
  type Model,
} from '../../../lib/index.js'
import { requestOf, sampleOf } from '../generation/tiny-samples.js'

let model: Model
beforeAll(async () => void (model = await loadModel('tiny')))
afterAll(() => model.dispose())

/** Of a picture of 143 x 105 pixels. */
const sample = sampleOf('grounding')
const raw =
  '<|object_ref_start|>the blue circle<|object_ref_end|><|box_start|>(750,50),(950,250)<|box_end|>'
const normalized = { x1: 750, y1: 50, x2: 950, y2: 250 }
const box = {
  kind: 'box',
  label: 'the blue circle',
  x1: 107.25,
  y1: 5.25,
  x2: 135.85,
  y2: 26.25,
  normalized,
}

describe('the boxes of an answer', () => {
  it('are in pixels of the original picture, whatever it was resized to', async () => {
    const { text, rawText, boxes, unplacedBoxes, images } = await model.generate(requestOf(sample))
    expect(text).toBe('the blue circle(750,50),(950,250)')
    expect(rawText).toBe(raw)
    expect(boxes).toEqual([box])
    expect(unplacedBoxes).toEqual([])
    expect(images[0]).toMatchObject({ width: 143, height: 105, resizedWidth: 140 })
    expect(parseBoxes(rawText, { image: images[0]! })).toEqual(boxes)
    expect(parseBoxes(text, { image: images[0]! })).toEqual(boxes)
  })

  it('lie where the thing is', async () => {
    const [found] = (await model.generate(requestOf(sample))).boxes
    const [part] = sample.messages[0]!.content as readonly ImagePart[]
    const { data, info } = await sharp(part!.image as string)
      .removeAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true })
    if (found?.kind !== 'box') throw new Error('no box')
    const [x, y] = [(found.x1 + found.x2) / 2, (found.y1 + found.y2) / 2].map(Math.round)
    const [red, green, blue] = data.subarray(3 * (y! * info.width + x!))
    expect(blue).toBeGreaterThan(1.5 * Math.max(red!, green!))
  })

  it('come as events once they are complete, after the text before their end', async () => {
    const events: GenerationEvent[] = []
    const stream = model.stream(requestOf(sample))
    for await (const event of stream) events.push(event)
    const at = events.findIndex(({ type }) => type === 'box')
    expect(events[at]).toEqual({ type: 'box', box })
    const texts = (list: GenerationEvent[]) =>
      list.map((event) => (event.type === 'text' ? event.text : '')).join('')
    expect(texts(events.slice(0, at))).toBe('the blue circle(750,50),(950,250)')
    expect(events.slice(at + 1).map(({ type }) => type)).toEqual(['finish'])
    expect((await stream.result).boxes).toEqual([box])
  })

  it('are unplaced where it is not clear of which picture they are', async () => {
    const [first] = sample.messages
    const content = [...(first!.content as ContentPart[])]
    const data = new Uint8Array(84 * 84 * 3).fill(255)
    content.splice(1, 0, { type: 'image', image: { data, width: 84, height: 84, channels: 3 } })
    const request = { ...requestOf(sample), messages: [{ role: 'user', content }] }
    const events: GenerationEvent[] = []
    const stream = model.stream(request)
    for await (const event of stream) events.push(event)
    const { boxes, unplacedBoxes, rawText, images } = await stream.result
    expect(boxes).toEqual([])
    expect(unplacedBoxes).not.toEqual([])
    expect(unplacedBoxes.map((item) => scaleTo(item, images[0]!))).toEqual(
      parseBoxes(rawText, { image: images[0]! }),
    )
    expect(events.filter(({ type }) => type === 'unplaced-box')).toEqual(
      unplacedBoxes.map((item) => ({ type: 'unplaced-box', box: item })),
    )
  })

  it('are placed where all pictures are of one size', async () => {
    const [first] = sample.messages
    const [image, question] = first!.content as [ContentPart, ContentPart]
    const messages = [{ role: 'user', content: [image, image, question] }]
    const { boxes, unplacedBoxes, rawText } = await model.generate({
      ...requestOf(sample),
      messages,
    })
    expect(boxes).toEqual(parseBoxes(rawText, { width: 143, height: 105 }))
    expect(boxes).not.toEqual([])
    expect(unplacedBoxes).toEqual([])
  })

  it('are none where a stop string cuts them off, in the result as in the stream', async () => {
    for (const [stop, rest, cut] of [
      ['950', '(750,50),(', '(750,50),('],
      [',250', '(750,50),(950', '(750,50),(950'],
      [')', '(750,50', '(750,50'],
    ] as const) {
      const types: string[] = []
      const stream = model.stream({ ...requestOf(sample), stop })
      for await (const event of stream) types.push(event.type)
      const { text, rawText, boxes } = await stream.result
      expect(text).toBe(`the blue circle${rest}`)
      expect(rawText).toBe(raw.slice(0, raw.indexOf('(750')) + cut)
      expect(boxes).toEqual([])
      expect(types).not.toContain('box')
    }
  })

  it('wait for text that a stop string may yet cut off', async () => {
    const events: GenerationEvent[] = []
    const stream = model.stream({ ...requestOf(sample), stop: '250)!' })
    for await (const event of stream) events.push(event)
    expect(events.slice(-3)).toMatchObject([
      { type: 'text', text: '250)' },
      { type: 'box', box },
      { type: 'finish' },
    ])
  })

  it('are none in an answer without any', async () => {
    const { boxes, unplacedBoxes, text, rawText } = await model.generate(
      requestOf(sampleOf('text-who')),
    )
    expect(boxes).toEqual([])
    expect(unplacedBoxes).toEqual([])
    expect(rawText).toBe(text)
  })
})
