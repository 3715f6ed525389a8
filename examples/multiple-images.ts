/**
 * Several images in one message, of any sizes, with text anywhere between them.
 *
 * In Python: a message with several `{"type": "image"}` items. The list goes through unchanged.
 *
 *     npx tsx examples/multiple-images.ts
 */
import { loadModel } from 'qwen2-vl'

const picture = (name: string) => new URL(`../models/qwen2-vl-tiny/images/${name}`, import.meta.url)

await using model = await loadModel('tiny')

const { text, images } = await model.generate({
  messages: [
    {
      role: 'user',
      content: [
        { type: 'image', image: picture('three-images-which-1.png') },
        { type: 'image', image: picture('three-images-which-2.png') },
        { type: 'image', image: picture('three-images-which-3.png') },
        { type: 'text', text: 'In which picture is the square?' },
      ],
    },
  ],
  maxTokens: 128,
})
console.log(text)
for (const { width, height, tokens } of images)
  console.log(`${width} x ${height}: ${tokens} tokens`)
