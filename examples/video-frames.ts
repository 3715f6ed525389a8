/**
 * A video as the list of its frames.
 *
 * In Python: `{"type": "video", "video": [frame, frame, …], "fps": 1.0}`. As there, the frames are used
 * as they are, none is left out, and two make one step in time. `fps` is accepted and has no effect on
 * Qwen2-VL, whose positions do not depend on seconds.
 *
 *     npx tsx examples/video-frames.ts
 */
import { loadModel } from 'qwen2-vl'

const frame = (number: number) =>
  new URL(`../models/qwen2-vl-tiny/videos/video-direction/frame-00${number}.png`, import.meta.url)

await using model = await loadModel('tiny')

const { text, usage } = await model.generate({
  messages: [
    {
      role: 'user',
      content: [
        { type: 'video', video: [frame(0), frame(1), frame(2), frame(3)], fps: 1.0 },
        { type: 'text', text: 'In which direction does the shape move?' },
      ],
    },
  ],
  maxTokens: 128,
})
console.log(text)
console.log(`${usage.videoTokens} tokens of video`)
