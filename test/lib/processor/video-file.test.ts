// Video files: what is found in them, which frames come out, and what becomes of files that are damaged.
import { createHash } from 'node:crypto'
import {
  closeSync,
  copyFileSync,
  openSync,
  readFileSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { findFfmpeg, type FfmpegTools } from '../../../lib/processor/ffmpeg.js'
import {
  countFrames,
  decodeFrames,
  probeVideo,
  readFfmpegText,
} from '../../../lib/processor/video-file.js'
import { packageRoot } from '../../../lib/package-root.js'
import { ClipFolder, hasFfmpeg } from './clips.js'

const run = { timeoutMs: 30_000 }
const videos = join(packageRoot, 'models', 'qwen2-vl-tiny', 'videos')
const code = (value: string) => expect.objectContaining({ code: value }) as Error

describe.skipIf(!hasFfmpeg)('video files', () => {
  let tools: FfmpegTools
  let clips: ClipFolder
  beforeAll(async () => {
    clips = new ClipFolder()
    tools = await findFfmpeg()
  })
  afterAll(() => clips.remove())

  /** By ffprobe, and by ffmpeg alone. */
  const bothProbes = async (path: string) => {
    const facts = await probeVideo(path, tools, run)
    expect(await probeVideo(path, { ...tools, ffprobe: undefined }, run)).toEqual(facts)
    return facts
  }
  const decode = async (path: string, indices: number[]) => {
    const frames = []
    for await (const frame of decodeFrames(path, indices, tools, run)) {
      frames.push({ ...frame, data: Buffer.from(frame.data) })
    }
    return frames
  }

  describe('the bundled clips', () => {
    it.each([
      ['video-describe', 84, 84, 'd0b74638d1de6b0d'],
      ['video-direction', 84, 112, '29d3812604fcd9ef'],
    ])('%s: close to the pictures beside it', async (name, width, height, digest) => {
      const path = join(videos, `${name}.mp4`)
      expect(await bothProbes(path)).toEqual({ width, height, frames: 5, fps: 2 })
      const frames = await decode(path, [0, 1, 2, 3, 4])
      expect(frames).toHaveLength(5)
      const hash = createHash('sha256')
      for (const [i, frame] of frames.entries()) {
        const picture = await sharp(join(videos, name, `frame-00${i}.png`))
          .removeAlpha()
          .raw()
          .toBuffer()
        const differences = picture.map((value, k) => Math.abs(value - frame.data[k]!))
        // Edges blur where four pixels share a colour; everywhere else it is a level or two.
        expect(differences.reduce((a, b) => a + b) / picture.length).toBeLessThan(1)
        expect(differences.toSorted().at(Math.floor(picture.length * 0.9))).toBeLessThanOrEqual(2)
        hash.update(frame.data)
      }
      // What Debian's ffmpeg 5.1 gives. The conversion to RGB is the same on every processor.
      expect(hash.digest('hex').slice(0, 16)).toBe(digest)
    })

    it('a choice of frames is the same frames', async () => {
      const path = join(videos, 'video-describe.mp4')
      const all = await decode(path, [0, 1, 2, 3, 4])
      const some = await decode(path, [1, 4])
      expect(some.map(({ data }) => data)).toEqual([all[1]!.data, all[4]!.data])
    })
  })

  describe('what a container says', () => {
    it('the NTSC rate exactly, also from the rounded text', async () => {
      const path = clips.test('ntsc.mp4', 'size=64x48:rate=30000/1001:duration=1')
      const facts = await bothProbes(path)
      expect(facts.fps).toBe(30000 / 1001)
      expect(facts.frames).toBe(30)
    })

    it('odd sizes and no frame count: it is counted', async () => {
      const path = clips.test('odd.mkv', 'size=161x121:rate=10:duration=1', '-c:v', 'ffv1')
      expect(await bothProbes(path)).toEqual({ width: 161, height: 121, frames: 10, fps: 10 })
      const [frame] = await decode(path, [9])
      expect(frame).toMatchObject({ width: 161, height: 121 })
    })

    it('a phone held upright: frames come upright', async () => {
      const flat = clips.test('flat.mp4', 'size=128x64:rate=4:duration=1')
      const path = clips.make(
        ...(['turned.mp4', '-i', flat, '-c', 'copy', '-metadata:s:v', 'rotate=90'] as const),
      )
      expect(await bothProbes(path)).toMatchObject({ width: 64, height: 128, frames: 4 })
      const [frame] = await decode(path, [0])
      expect(frame).toMatchObject({ width: 64, height: 128 })
    })

    it('a variable rate: every frame once', async () => {
      const path = clips.test(
        'variable.mkv',
        'size=64x48:rate=10:duration=3',
        ...['-vf', "select='lt(n,5)+eq(n,20)+eq(n,29)'", '-vsync', 'vfr', '-c:v', 'ffv1'],
      )
      expect((await probeVideo(path, tools, run)).frames).toBe(7)
      expect(await decode(path, [0, 1, 2, 3, 4, 5, 6])).toHaveLength(7)
    })

    it('sound beside pictures, and a cover picture on sound alone', async () => {
      const tone = ['-f', 'lavfi', '-i', 'sine=duration=1']
      const both = clips.test('both.mp4', 'size=64x48:rate=5:duration=1', ...tone)
      expect(await bothProbes(both)).toEqual({ width: 64, height: 48, frames: 5, fps: 5 })
      const sound = clips.make('sound.wav', ...tone)
      await expect(probeVideo(sound, tools, run)).rejects.toThrow(code('ERR_VIDEO_DECODE'))
      const audio = clips.make('sound.mp4', ...tone, '-c:a', 'aac')
      for (const probe of [tools, { ...tools, ffprobe: undefined }]) {
        await expect(probeVideo(audio, probe, run)).rejects.toThrow(code('ERR_VIDEO_NO_STREAM'))
      }
    })

    it('counts what can be decoded', async () => {
      const path = join(videos, 'video-describe.mp4')
      expect(await countFrames(path, tools, run)).toBe(5)
    })

    it("reads ffmpeg's text in its many forms", () => {
      const line = (rest: string) =>
        `  Stream #0:1(eng): Video: h264 (High) (avc1 / 0x31637661), yuv420p, ${rest}\nframe=    3 fps=0\nframe=  120 q=-1`
      expect(
        readFfmpegText(line('1920x1080 [SAR 1:1 DAR 16:9], 4 kb/s, 23.98 fps, 24 tbr')),
      ).toEqual({ width: 1920, height: 1080, frames: 120, fps: 24000 / 1001 })
      expect(readFfmpegText(line('640x480, 12.50 fps'))?.fps).toBe(12.5)
      expect(readFfmpegText(line('640x480, 59.94 fps'))?.fps).toBe(60000 / 1001)
      expect(readFfmpegText(line('640x480, 1k fps'))?.fps).toBe(1000)
      const turned = `${line('640x480, 25 fps')}\n displaymatrix: rotation of -90.00 degrees`
      expect(readFfmpegText(turned)).toMatchObject({ width: 480, height: 640 })
      expect(readFfmpegText('Stream #0:0: Audio: aac')).toBeUndefined()
    })
  })

  describe('files that cannot be decoded', () => {
    let whole: string
    beforeAll(() => {
      whole = clips.test('whole.mp4', 'size=320x240:rate=10:duration=4', '-movflags', 'faststart')
    })
    const copy = (name: string) => {
      const path = join(clips.path, name)
      copyFileSync(whole, path)
      return path
    }

    it('a file that is cut short', async () => {
      const path = copy('short.mp4')
      truncateSync(path, Math.floor(readFileSync(whole).length / 2))
      await expect(decode(path, [0, 20, 39])).rejects.toThrow(code('ERR_VIDEO_DECODE'))
      await expect(decode(path, [0, 20, 39])).rejects.toThrow(/Send a whole video file/)
    })

    it('a file that lacks its index', async () => {
      const path = clips.test('tail.mp4', 'size=320x240:rate=10:duration=4')
      truncateSync(path, Math.floor(readFileSync(path).length / 2))
      await expect(probeVideo(path, tools, run)).rejects.toThrow(/moov atom not found/)
      await expect(probeVideo(path, tools, run)).rejects.toThrow(code('ERR_VIDEO_DECODE'))
    })

    it('a file that is damaged in the middle', async () => {
      const path = copy('damaged.mp4')
      const file = openSync(path, 'r+')
      const { length } = readFileSync(path)
      writeSync(file, Buffer.alloc(4000, 0xa5), 0, 4000, Math.floor(length / 2))
      closeSync(file)
      await expect(decode(path, [0, 20, 39])).rejects.toThrow(code('ERR_VIDEO_DECODE'))
    })

    it.each([
      ['text', 'Once upon a time.'],
      ['a playlist', '#EXTM3U\n#EXTINF:4,\nwhole.mp4\n#EXT-X-ENDLIST\n'],
      ['a list of files', "ffconcat version 1.0\nfile 'whole.mp4'\n"],
      ['a picture of text', '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'],
    ])('%s is no video', async (name, text) => {
      const path = join(clips.path, `${name}.txt`)
      writeFileSync(path, text)
      await expect(probeVideo(path, tools, run)).rejects.toThrow(code('ERR_VIDEO_DECODE'))
      await expect(decode(path, [0])).rejects.toThrow(code('ERR_VIDEO_DECODE'))
    })
  })
})
