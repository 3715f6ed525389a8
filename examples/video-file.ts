/**
 * A video file, of which frames are chosen. Needs `ffmpeg` (apt-get install ffmpeg, brew install ffmpeg).
 *
 * In Python: `{"type": "video", "video": "file:///path/to/video.mp4", "max_pixels": 360 * 420, "fps": 1.0}`. The same
 * part works here and takes the same frames at the same size: two a second unless `fps` or `nframes` says
 * otherwise, at least four and at most 768. Frames are resized as ffmpeg gives them, so that a long
 * video takes no more memory than the pixels that the model sees.
 *
 *     npx tsx examples/video-file.ts
 */
import { loadModel } from 'qwen2-vl'

await using model = await loadModel('tiny')

const request = {
  messages: [
    {
      role: 'user',
      content: [
        {
          type: 'video' as const,
          video: new URL('../models/qwen2-vl-tiny/videos/video-describe.mp4', import.meta.url),
          fps: 2.0,
          min_pixels: 4 * 28 * 28,
          max_pixels: 9 * 28 * 28,
        },
        { type: 'text' as const, text: 'What happens in the video?' },
      ],
    },
  ],
  maxTokens: 128,
}

// A long video can cost tens of thousands of tokens; this tells, without decoding it.
const { videoTokens } = await model.countTokens(request)
console.log(`${videoTokens} tokens of video`)

const { text } = await model.generate(request)
console.log(text)
