/**
 * Limits on the pixels of images, which decide what they cost: one token for 28 x 28 pixels.
 *
 * In Python the limits of all images are given to the processor, `AutoProcessor.from_pretrained(…,
 * min_pixels=256*28*28, max_pixels=1280*28*28)`, and those of one image beside it, `{"type": "image",
 * "image": …, "min_pixels": 50176, "max_pixels": 50176}`. Here the former are options of `loadModel`.
 *
 *     npx tsx examples/pixel-limits.ts
 */
import { loadModel, type PixelOptions } from 'qwen2-vl'

const image = new URL('../models/qwen2-vl-tiny/images/describe-three.jpg', import.meta.url)
const tokens = (count: number) => count * 28 * 28

await using model = await loadModel('tiny', { minPixels: tokens(4), maxPixels: tokens(20) })

const limits: PixelOptions[] = [
  {}, // those of the model
  { maxPixels: tokens(9) },
  { minPixels: tokens(64), maxPixels: tokens(64) },
]
for (const limit of limits) {
  const request = {
    messages: [
      {
        role: 'user',
        content: [
          { type: 'image' as const, image, ...limit },
          { type: 'text' as const, text: 'What do you see?' },
        ],
      },
    ],
    maxTokens: 128,
  }
  // What a request will cost can be asked before it runs.
  const { images } = await model.countTokens(request)
  const { text } = await model.generate(request)
  console.log(`${images[0]?.tokens} tokens: ${text}`)
}
