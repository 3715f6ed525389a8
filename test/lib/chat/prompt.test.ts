import { beforeAll, describe, expect, it } from 'vitest'
import { expandPlaceholders, type PlaceholderItem } from '../../../lib/chat/prompt.js'
import { InvalidArgumentError } from '../../../lib/errors.js'
import { Tokenizer } from '../../../lib/tokenizer/tokenizer.js'
import { tinyFile, tinySamples } from '../tokenizer/tiny-checkpoint.js'

const imageId = 1258
const videoId = 1259

let tokenizer: Tokenizer

beforeAll(async () => {
  tokenizer = await Tokenizer.load({ tokenizerJson: tinyFile('tokenizer.json') })
})

function expand(ids: number[], ...items: PlaceholderItem[]): number[] {
  return [...expandPlaceholders(ids, items, imageId, videoId)]
}

const image = (tokens: number): PlaceholderItem => ({ kind: 'image', tokens })
const video = (tokens: number): PlaceholderItem => ({ kind: 'video', tokens })

describe('placeholders', () => {
  it('make the prompt ids of the samples', () => {
    const tokens = ([t, h, w]: [number, number, number]) => (t * h * w) / 4
    for (const sample of tinySamples()) {
      const items = [
        ...sample.image_grid_thw.map((grid) => image(tokens(grid))),
        ...sample.video_grid_thw.map((grid) => video(tokens(grid))),
      ]
      const ids = tokenizer.encode(sample.prompt)
      expect(expand(ids, ...items), sample.id).toEqual(sample.prompt_token_ids)
    }
  })

  it('equal what comes of replacing them in the text, as the reference does', () => {
    const around = ['', ' ', 'a', 'é', '\n\n', '  x', "'s", '<|im_end|>', '\u0301']
    for (const before of around) {
      for (const after of around) {
        const text = (copies: number) => `${before}${'<|image_pad|>'.repeat(copies)}${after}`
        const ids = tokenizer.encode(text(1))
        expect(expand(ids, image(5))).toEqual(tokenizer.encode(text(5)))
      }
    }
  })

  it('of images and videos are counted apart', () => {
    const ids = [1, videoId, imageId, 2, imageId, 3]
    expect(expand(ids, image(1), image(3), video(2))).toEqual([
      ...[1, videoId, videoId],
      ...[imageId, 2, imageId, imageId, imageId, 3],
    ])
  })

  it('leave text alone', () => {
    expect(expand([1, 2, 3])).toEqual([1, 2, 3])
    expect(expand([])).toEqual([])
  })

  it('take 32,000 copies of 1,000 images without delay', () => {
    const ids = Array.from({ length: 3000 }, (_, i) => (i % 3 === 0 ? imageId : i % 3))
    const items = Array.from({ length: 1000 }, () => image(32))
    expect(expand(ids, ...items)).toHaveLength(2000 + 32_000)
  })
})

describe('placeholders that do not fit', () => {
  it('more of them: a text contains one', () => {
    const ids = tokenizer.encode('<|image_pad|> What does <|image_pad|> mean?')
    expect(() => expand(ids, image(4))).toThrow(InvalidArgumentError)
    expect(() => expand(ids, image(4))).toThrow(
      /has 2 image placeholders for 1 image\. A message contains the text <\|image_pad\|>/,
    )
    expect(() => expand([videoId])).toThrow(/has 1 video placeholder for 0 videos/)
  })

  it('fewer of them: the template left one out', () => {
    expect(() => expand([1, 2], image(4))).toThrow(InvalidArgumentError)
    expect(() => expand([imageId], image(4), image(4))).toThrow(
      /has 1 image placeholder for 2 images\. The chat template left out a part/,
    )
    expect(() => expand([imageId], image(4), video(4))).toThrow(
      expect.objectContaining({ details: { placeholders: 0, items: 1, kind: 'video' } }),
    )
  })
})
