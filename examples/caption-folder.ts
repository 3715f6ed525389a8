/**
 * Captions for all pictures of a folder, a line of JSON for each, with a bar that shows how far it is.
 *
 * Requests share the steps of the engine, so that many at once are faster than one after another. A picture that
 * cannot be read does not stop the others: its line has the error.
 *
 *     npx tsx examples/caption-folder.ts [folder] > captions.jsonl
 */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { loadModel } from 'qwen2-vl'

const bundled = fileURLToPath(new URL('../models/qwen2-vl-tiny/images', import.meta.url))
const [folder = bundled] = process.argv.slice(2)
const names = (await readdir(folder)).filter((name) => /\.(jpe?g|png|webp|gif|avif)$/i.test(name))

await using model = await loadModel('tiny')

let done = 0
const results = await model.generateBatch(
  names.sort().map((name) => ({
    messages: [
      {
        role: 'user',
        content: [
          { type: 'image' as const, image: join(folder, name), maxPixels: 1280 * 28 * 28 },
          { type: 'text' as const, text: 'What is in the image?' },
        ],
      },
    ],
    maxTokens: 128,
  })),
  { concurrency: 8, onResult: () => showBar(++done, names.length) },
)
for (const [i, result] of results.entries()) {
  const line = result instanceof Error ? { error: result.message } : { caption: result.text }
  console.log(JSON.stringify({ file: names[i], ...line }))
}

/** Drawn over itself on a terminal, a line each elsewhere. */
function showBar(count: number, total: number): void {
  const filled = Math.round((24 * count) / total)
  const bar = '█'.repeat(filled) + '░'.repeat(24 - filled)
  const isOver = !process.stderr.isTTY || count === total
  process.stderr.write(`\r${bar} ${count} of ${total}${isOver ? '\n' : ''}`)
}
