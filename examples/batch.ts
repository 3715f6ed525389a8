/**
 * Several conversations at once, some with images and some without.
 *
 * In Python: a list of conversations, `padding=True`, one `generate` for all of them, which lasts as long
 * as the longest answer. Here every request is a promise of its own; requests that run at the same time
 * share the steps of the engine, nothing is padded, and each answer is the one it would be alone.
 *
 *     npx tsx examples/batch.ts
 */
import { loadModel, type ChatMessage } from 'qwen2-vl'

const picture = (name: string) => new URL(`../models/qwen2-vl-tiny/images/${name}`, import.meta.url)

const conversations: ChatMessage[][] = [
  [
    {
      role: 'user',
      content: [
        { type: 'image', image: picture('two-images-same-1.png') },
        { type: 'image', image: picture('two-images-same-2.png') },
        { type: 'text', text: 'Do the two images show the same shape?' },
      ],
    },
  ],
  [
    { role: 'system', content: 'You are a helpful assistant.' },
    { role: 'user', content: 'Who are you?' },
  ],
]

await using model = await loadModel('tiny')

const answers = await Promise.all(
  conversations.map((messages) => model.generate({ messages, maxTokens: 128 })),
)
for (const { text } of answers) console.log(text)
