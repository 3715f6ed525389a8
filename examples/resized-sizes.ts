/**
 * The exact size at which the model sees an image.
 *
 * In Python: `"resized_height": 280, "resized_width": 420`. The same keys work here, in either spelling. Both
 * are rounded to multiples of 28, they replace the limits on pixels, and they go together: one
 * without the other is an error, where Python ignores it.
 *
 *     npx tsx examples/resized-sizes.ts
 */
import { loadModel } from 'qwen2-vl'

const image = new URL('../models/qwen2-vl-tiny/images/describe-three.jpg', import.meta.url)

await using model = await loadModel('tiny')

const { text, images } = await model.generate({
  messages: [
    {
      role: 'user',
      content: [
        { type: 'image', image, resized_height: 150, resized_width: 170 },
        { type: 'text', text: 'What do you see?' },
      ],
    },
  ],
  maxTokens: 128,
})
console.log(text)
for (const { width, height, resizedWidth, resizedHeight, tokens } of images) {
  console.log(`${width} x ${height} seen as ${resizedWidth} x ${resizedHeight}: ${tokens} tokens`)
}
