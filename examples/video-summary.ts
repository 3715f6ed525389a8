/**
 * A summary of a video: what happens in each part of it, then a question about the whole. Needs `ffmpeg`.
 *
 * A long video as a whole costs many tokens, or shows each second with few. In parts, each is seen at the same rate;
 * they are asked about at once and share the steps of the engine.
 *
 *     npx tsx examples/video-summary.ts [clip.mp4] [seconds of a part] [parts]
 */
import { fileURLToPath } from 'node:url'
import { loadModel, type GenerateRequest, type VideoPart } from 'qwen2-vl'

const bundled = fileURLToPath(
  new URL('../models/qwen2-vl-tiny/videos/video-describe.mp4', import.meta.url),
)
const [video = bundled, seconds = '1.25', parts = '2'] = process.argv.slice(2)

await using model = await loadModel('tiny')

const ask = (text: string, options: Partial<VideoPart>): GenerateRequest => ({
  messages: [
    {
      role: 'user',
      content: [
        { type: 'video', video, minPixels: 4 * 28 * 28, maxPixels: 9 * 28 * 28, ...options },
        { type: 'text', text },
      ],
    },
  ],
  maxTokens: 128,
})

const whole = ask('What happens in the video?', { fps: 2 })
const { videos, videoTokens } = await model.countTokens(whole)
console.log(`${videos[0]?.frames} frames, ${videoTokens} tokens`)

const starts = Array.from({ length: Number(parts) }, (_, i) => i * Number(seconds))
const times = starts.map((videoStart) => ({ videoStart, videoEnd: videoStart + Number(seconds) }))
const answers = await model.generateBatch(
  times.map((time) => ask('Describe the video.', { nframes: 2, ...time })),
)
for (const [i, answer] of answers.entries()) {
  const { videoStart, videoEnd } = times[i] ?? { videoStart: 0, videoEnd: 0 }
  const text = answer instanceof Error ? answer.message : answer.text
  console.log(`${videoStart}-${videoEnd} s: ${text}`)
}
console.log(`In all: ${(await model.generate(whole)).text}`)
