/**
 * Questions about a document, with the places that the answers name drawn on it.
 *
 * The document is read and encoded once, whatever is asked about it. Boxes come in pixels of the picture as it is in its
 * file; `annotate` draws them, a colour for each label.
 *
 *     npx tsx examples/document-questions.ts [document.png] [question...]
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { annotate, loadModel, type Box, type Grounding } from 'qwen2-vl'

const bundled = fileURLToPath(
  new URL('../models/qwen2-vl-tiny/images/grounding.png', import.meta.url),
)
const [document = bundled, ...given] = process.argv.slice(2)
const questions =
  given.length > 0 ? given : ['How many shapes are there?', 'Locate the blue circle.']

await using model = await loadModel('tiny')

using image = await model.prepareImage(document)
const found: Grounding[] = []
for (const question of questions) {
  const { text, boxes, images } = await model.generate({
    messages: [
      {
        role: 'user',
        content: [
          { type: 'image', image },
          { type: 'text', text: question },
        ],
      },
    ],
    maxTokens: 256,
  })
  console.log(`${question} ${text}${images[0]?.cached ? ' (encoded before)' : ''}`)
  for (const box of boxes.filter((item): item is Box => item.kind === 'box')) {
    const corners = [box.x1, box.y1, box.x2, box.y2].map((value) => value.toFixed(1))
    console.log(`  ${box.label}: ${corners.join(' ')}`)
  }
  found.push(...boxes)
}

await mkdir('build', { recursive: true })
await writeFile('build/document-questions.png', await annotate(document, found))
console.log(`${found.length} drawn in build/document-questions.png`)
