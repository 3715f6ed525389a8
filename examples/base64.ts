/**
 * An image that is at hand as base64 or as bytes.
 *
 * In Python: `"image": "data:image;base64,/9j/…"`. The same string works here, and so does a data URL with
 * its media type, as the OpenAI client sends it. Where the bytes are at hand there is no need to encode them.
 *
 *     npx tsx examples/base64.ts
 */
import { readFile } from 'node:fs/promises'
import { loadModel, type ContentPart } from 'qwen2-vl'

const bytes = await readFile(
  new URL('../models/qwen2-vl-tiny/images/ocr-hello.png', import.meta.url),
)
const base64 = bytes.toString('base64')

await using model = await loadModel('tiny')

const spellings: Record<string, ContentPart> = {
  'as in the Python README': { type: 'image', image: `data:image;base64,${base64}` },
  'as the OpenAI client sends it': {
    type: 'image_url',
    image_url: { url: `data:image/png;base64,${base64}` },
  },
  'as bytes': { type: 'image', image: bytes },
}
for (const [spelling, image] of Object.entries(spellings)) {
  const { text } = await model.generate({
    messages: [{ role: 'user', content: [image, { type: 'text', text: 'Read the text.' }] }],
    maxTokens: 128,
  })
  console.log(`${spelling}: ${text}`)
}
