/**
 * Numbers before images and videos ("Picture 1: ", "Video 1: "), so that a question can name them.
 *
 * In Python: `processor.apply_chat_template(conversation, add_vision_id=True)`. The numbers run over the whole
 * conversation, images and videos are counted apart, and it is off unless asked for.
 *
 *     npx tsx examples/add-vision-id.ts
 */
import { loadModel, type ChatMessage } from 'qwen2-vl'

const folder = new URL('../models/qwen2-vl-tiny/', import.meta.url)
const image = (name: string) => ({ type: 'image' as const, image: new URL(name, folder) })

const messages: ChatMessage[] = [
  {
    role: 'user',
    content: [
      image('images/two-images-same-1.png'),
      image('images/two-images-same-2.png'),
      { type: 'text', text: 'Do the two images show the same shape?' },
    ],
  },
]

await using model = await loadModel('tiny')

for (const addVisionId of [false, true]) {
  const { text, usage } = await model.generate({ messages, addVisionId, maxTokens: 128 })
  console.log(`addVisionId: ${addVisionId}, ${usage.textTokens} tokens of text: ${text}`)
}
