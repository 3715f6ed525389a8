/**
 * Asks the bundled checkpoint about bundled pictures and a video, streams the answers and says what ran
 * where. `npm run demo` builds the addon and runs this file.
 */
import { readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pc from 'picocolors'
import { loadModel, type ContentPart } from '../lib/index.js'

const folder = fileURLToPath(new URL('../models/qwen2-vl-tiny', import.meta.url))
const image = (name: string): ContentPart => ({
  type: 'image',
  image: join(folder, 'images', name),
})
const video = (name: string): ContentPart => {
  const frames = join(folder, 'videos', name)
  return {
    type: 'video',
    video: readdirSync(frames)
      .sort()
      .map((frame) => join(frames, frame)),
  }
}

const questions: { media: ContentPart[]; question: string; addVisionId?: boolean }[] = [
  { media: [image('ocr-hello.png')], question: 'What does the text say?' },
  { media: [image('describe-three.jpg')], question: 'What do you see?' },
  { media: [image('count.png')], question: 'How many shapes are there?' },
  {
    media: [image('two-images-same-1.png'), image('two-images-same-2.png')],
    question: 'Do the two images show the same shape?',
    addVisionId: true,
  },
  { media: [video('video-direction')], question: 'In which direction does the shape move?' },
  { media: [], question: '你是谁？' },
]

await using model = await loadModel('tiny')
const { device } = model.info
console.log(
  `${pc.bold(model.info.architecture)} on ${device.name}, ${device.kind} with ${device.instructionSet} kernels, ${device.threads} threads\n`,
)

let tokens = 0
const begin = performance.now()
for (const { media, question, addVisionId = false } of questions) {
  console.log(pc.dim(media.map(describe).join(' + ') || 'text only'))
  process.stdout.write(`${pc.cyan('?')} ${question}\n${pc.green('>')} `)
  const stream = model.stream({
    messages: [{ role: 'user', content: [...media, { type: 'text', text: question }] }],
    addVisionId,
  })
  for await (const text of stream.textStream) process.stdout.write(text)
  const { usage, timings } = await stream.result
  tokens += usage.completionTokens
  console.log(
    pc.dim(
      `\n  ${usage.promptTokens} prompt tokens (${usage.imageTokens + usage.videoTokens} visual), ` +
        `first token after ${timings.firstTokenMs.toFixed(0)} ms, ${timings.tokensPerSecond.toFixed(0)} tokens/s\n`,
    ),
  )
}
const seconds = (performance.now() - begin) / 1000
console.log(`${questions.length} answers, ${tokens} tokens in ${seconds.toFixed(2)} s`)

function describe(part: ContentPart): string {
  if (part.type === 'image') return typeof part.image === 'string' ? basename(part.image) : 'image'
  if (part.type === 'video') return `video of ${(part.video as unknown[]).length} frames`
  return part.type
}
