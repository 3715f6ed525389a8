/**
 * One image and a question.
 *
 * The Python README loads model and processor, renders the template, collects the images with
 * `process_vision_info`, calls the processor, `generate`, cuts off the prompt and decodes. Here it is
 * one call: `messages` is the same list, `max_new_tokens` has the same meaning, and `text` is the answer.
 *
 *     npx tsx examples/single-image.ts
 */
import { loadModel } from 'qwen2-vl'

await using model = await loadModel('tiny') // or the folder of Qwen2-VL-2B-Instruct

const { text, usage } = await model.generate({
  messages: [
    {
      role: 'user',
      content: [
        {
          type: 'image',
          image: new URL('../models/qwen2-vl-tiny/images/describe-three.jpg', import.meta.url),
        },
        { type: 'text', text: 'What do you see?' },
      ],
    },
  ],
  max_new_tokens: 128,
})
console.log(text)
console.log(`${usage.imageTokens} of ${usage.promptTokens} prompt tokens are the image's`)
