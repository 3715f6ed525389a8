// Video files from every kind of source to the item for the model, and what is left behind: nothing.
import {
  chmodSync,
  createReadStream,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pathToFileURL } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { parsePreprocessorConfig } from '../../../lib/checkpoint/preprocessor-config.js'
import { FetchError, VideoError } from '../../../lib/errors.js'
import { findFfmpeg } from '../../../lib/processor/ffmpeg.js'
import { DEFAULT_MEDIA_OPTIONS, toMediaOptions } from '../../../lib/processor/media-options.js'
import { nativeBinding } from '../../../lib/native.js'
import { measureVideo, prepareVideo, type VideoSource } from '../../../lib/processor/video.js'
import { decodeFrames } from '../../../lib/processor/video-file.js'
import { ClipFolder, hasFfmpeg } from './clips.js'

const published = parsePreprocessorConfig({ max_pixels: 12845056 }, 'preprocessor_config.json')

describe.skipIf(!hasFfmpeg)('prepareVideo() of files', () => {
  const clips = new ClipFolder()
  const temporary = join(clips.path, 'temporary')
  let clip: string
  beforeAll(() => {
    mkdirSync(temporary)
    vi.stubEnv('TMPDIR', temporary)
    clip = clips.test('clip.mp4', 'size=160x120:rate=10:duration=3')
  })
  afterEach(() => expect(readdirSync(temporary)).toEqual([]))
  afterAll(() => {
    vi.unstubAllEnvs()
    clips.remove()
  })

  const prepare = (source: VideoSource, options = {}, context = {}) =>
    prepareVideo(source, options, published, { index: 0, ...context })
  const failure = (promise: Promise<unknown>) =>
    promise.then(
      () => expect.fail('it was accepted'),
      (error: unknown) => error as VideoError,
    )
  const ffmpegRuns = () =>
    readdirSync('/proc').filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(clips.path)
      } catch {
        return false
      }
    })

  it('frames are those of the rule, resized as torchvision does', async () => {
    const item = await prepare(clip)
    expect(item).toMatchObject({
      kind: 'video',
      info: { width: 160, height: 120, resizedWidth: 392, resizedHeight: 280 },
      gridThw: [3, 20, 28],
      tokens: 420,
    })
    expect(item.info).toMatchObject({ frames: 6, sampledFps: 2 })
    const { tools, expected } = { tools: await findFfmpeg(), expected: [] as Uint8Array[] }
    for await (const { data } of decodeFrames(clip, [0, 6, 12, 17, 23, 29], tools, {
      timeoutMs: 9000,
    })) {
      const pixels = { data, width: 160, height: 120, channels: 3 as const, cmyk: false }
      const sizes = [{ width: 392, height: 280, filter: 'torchvision' as const }]
      expected.push((await nativeBinding().prepareImage(pixels, 'drop', sizes)).toRgb())
    }
    expect(item.native.frames.map((frame) => frame.toRgb())).toEqual(expected)
  })

  it.each<[string, () => VideoSource]>([
    ['a file: URL', () => pathToFileURL(clip).href],
    ['a URL object', () => pathToFileURL(clip)],
    ['a data: URL', () => `data:video/mp4;base64,${readFileSync(clip).toString('base64')}`],
    ['a Buffer', () => readFileSync(clip)],
    ['an ArrayBuffer', () => new Uint8Array(readFileSync(clip)).buffer],
    ['a Blob', () => new Blob([readFileSync(clip)])],
    ['a Node stream', () => createReadStream(clip)],
    ['a web stream', () => Readable.toWeb(createReadStream(clip)) as ReadableStream<Uint8Array>],
  ])('%s gives what the path gives', async (_, source) => {
    const options = { nframes: 4, minPixels: 3136 }
    const expected = await prepare(clip, options)
    const item = await prepare(source(), options)
    expect(item.info).toEqual(expected.info)
    expect(item.native.frames.map((frame) => frame.toRgb())).toEqual(
      expected.native.frames.map((frame) => frame.toRgb()),
    )
  })

  it.each([
    [{ fps: 4 }, { frames: 12, tokens: 840, sampledFps: 4 }],
    [{ nframes: 10 }, { frames: 10 }],
    [{ fps: 0.1, minFrames: 2 }, { frames: 2 }],
    [{ maxFrames: 4 }, { frames: 4 }],
    [
      { videoStart: 1, videoEnd: 1.9 },
      { frames: 4, sampledFps: 4 },
    ],
    [{ minPixels: 3136 }, { resizedWidth: 168, resizedHeight: 112 }],
    [
      { minPixels: 3136, maxPixels: 12544 },
      { resizedWidth: 112, resizedHeight: 84 },
    ],
    [
      { resizedHeight: 56, resizedWidth: 84 },
      { resizedWidth: 84, resizedHeight: 56 },
    ],
  ])('%o is told without decoding, and so it comes', async (options, expected) => {
    const measured = await measureVideo(clip, options, published, { index: 0 })
    expect(measured.info).toMatchObject(expected)
    const item = await prepare(clip, options)
    expect(item).toMatchObject(measured)
    expect(item.native.frames).toHaveLength((item.info as { frames: number }).frames)
  })

  it('the later profile counts as the later rules do', async () => {
    const media = toMediaOptions({ videoProfile: 'utils-later' })
    const { info } = await measureVideo(clip, { fps: 3.7 }, published, { index: 0, media })
    expect(info).toMatchObject({ frames: 10 }) // 11.1, rounded down; to 12 by the early rule
  })

  it('a film that promises more frames than it has: frames are chosen among those', async () => {
    // As with an edit list, which leaves out frames that the container counts.
    const path = clips.make('cut.mkv', '-i', clip, '-c:v', 'ffv1')
    const tools = await findFfmpeg()
    const promise = join(clips.path, 'ffprobe')
    writeFileSync(
      promise,
      `#!/bin/sh\nffprobe "$@" | sed 's/"nb_read_packets": "30"/"nb_read_packets": "60"/'\n`,
    )
    writeFileSync(join(clips.path, 'ffmpeg'), '#!/bin/sh\nexec ffmpeg "$@"\n')
    for (const name of ['ffprobe', 'ffmpeg']) chmodSync(join(clips.path, name), 0o755)
    const media = toMediaOptions({ ffmpegPath: join(clips.path, 'ffmpeg') })
    expect(tools.ffprobe).toBe('ffprobe')
    expect((await measureVideo(path, {}, published, { index: 0, media })).info).toMatchObject({
      frames: 12,
    })
    const item = await prepare(path, {}, { media })
    expect(item.info).toMatchObject({ frames: 6, sampledFps: 2 })
  })

  it.each<[string, () => VideoSource, object, string]>([
    ['a missing file', () => join(clips.path, 'none.mp4'), {}, 'ERR_VIDEO_NOT_FOUND'],
    ['a folder', () => clips.path, {}, 'ERR_VIDEO_READ'],
    ['no bytes', () => Buffer.alloc(0), {}, 'ERR_VIDEO_EMPTY'],
    ['other bytes', () => Buffer.from('Once upon a time'), {}, 'ERR_VIDEO_DECODE'],
    ['a data: URL without base64', () => 'data:video/mp4,x', {}, 'ERR_VIDEO_SOURCE'],
    ['a file, where files are not read', () => clip, { allowFiles: false }, 'ERR_VIDEO_SOURCE'],
    ['a large file', () => clip, { maxVideoBytes: 999 }, 'ERR_VIDEO_TOO_LARGE'],
    ['many bytes', () => readFileSync(clip), { maxVideoBytes: 999 }, 'ERR_VIDEO_TOO_LARGE'],
    ['an endless stream', endless, { maxVideoBytes: 99999 }, 'ERR_VIDEO_TOO_LARGE'],
    ['a large picture', () => clip, { maxImagePixels: 9999 }, 'ERR_VIDEO_TOO_LARGE'],
    ['an address', () => 'http://localhost/a.mp4', {}, 'ERR_FETCH_BLOCKED'],
  ])('%s: says so, of which video', async (_, source, given, code) => {
    const media = { ...DEFAULT_MEDIA_OPTIONS, ...given }
    for (const work of [prepareVideo, measureVideo]) {
      const error = await failure(work(source(), {}, published, { index: 1, media }))
      expect(error.code).toBe(code)
      expect(error).toBeInstanceOf(code.startsWith('ERR_FETCH') ? FetchError : VideoError)
      expect(error.details).toMatchObject({ index: 1 })
      expect(error.message).toMatch(/^Video 2: /)
    }
  })

  it('an address is fetched by the rules for addresses, and what comes is decoded', async () => {
    const server = createServer((request, response) => {
      if (request.url === '/page') response.end('<!doctype html><title>No video</title>')
      else createReadStream(clip).pipe(response)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    try {
      const { port } = server.address() as AddressInfo
      const media = { ...DEFAULT_MEDIA_OPTIONS, allowPrivateHosts: true }
      const expected = await prepare(clip, { nframes: 4 })
      const item = await prepare(`http://127.0.0.1:${port}/a`, { nframes: 4 }, { media })
      expect(item.native.frames.map((frame) => frame.toRgb())).toEqual(
        expected.native.frames.map((frame) => frame.toRgb()),
      )
      const page = await failure(prepare(`http://127.0.0.1:${port}/page`, {}, { media, index: 1 }))
      expect(page).toBeInstanceOf(FetchError)
      expect(page.code).toBe('ERR_FETCH_CONTENT')
      const small = { ...media, maxVideoBytes: 999 }
      const large = await failure(prepare(`http://127.0.0.1:${port}/a`, {}, { media: small }))
      expect(large.code).toBe('ERR_FETCH_TOO_LARGE')
    } finally {
      server.close()
    }
  })

  it('a single frame is told to be a picture', async () => {
    const path = clips.test('single.mp4', 'size=64x48:rate=1:duration=1')
    const error = await failure(prepare(path))
    expect(error.code).toBe('ERR_VIDEO_TOO_SHORT')
    expect(error.message).toMatch(/Send a single picture as an image/)
  })

  it('an abort ends ffmpeg and removes the copy', async () => {
    const long = clips.test('long.mp4', 'size=640x480:rate=25:duration=40', '-preset', 'ultrafast')
    const reason = new Error('enough')
    const controller = new AbortController()
    const bytes = readFileSync(long)
    const prepared = prepare(bytes, { nframes: 500 }, { signal: controller.signal })
    setTimeout(() => controller.abort(reason), 300)
    expect(await failure(prepared)).toBe(reason)
    expect(ffmpegRuns()).toEqual([])
  })

  it.each<[string, () => VideoSource]>([
    ['a Node stream', () => new Readable({ read() {} })],
    ['a web stream', () => new ReadableStream({ pull: () => new Promise(() => {}) })],
  ])('%s that gives nothing is let go when the signal aborts', async (_, source) => {
    const stream = source()
    const error = await failure(prepare(stream, {}, { signal: AbortSignal.timeout(30) }))
    expect(error.name).toBe('TimeoutError')
    if (stream instanceof Readable) expect(stream.destroyed).toBe(true)
  })

  it('a stream that fails, gives text or was read before says so', async () => {
    const broken = new Readable({ read: () => void broken.destroy(new Error('cable cut')) })
    const used = createReadStream(clip)
    used.destroy()
    const locked = new ReadableStream()
    locked.getReader()
    for (const [source, message] of [
      [broken, /its stream failed \(cable cut\)/],
      [used, /its stream failed/],
      [locked, /its stream failed .*locked/],
    ] as const) {
      const error = await failure(prepare(source as VideoSource))
      expect(error.code).toBe('ERR_VIDEO_STREAM')
      expect(error.message).toMatch(message)
    }
    const text = createReadStream(clip, { encoding: 'latin1' })
    expect((await failure(prepare(text))).message).toMatch(/gives a string instead of bytes/)
  })

  it('an ffmpeg that hangs is ended', async () => {
    const slow = join(clips.path, 'slow')
    mkdirSync(slow)
    const script = (name: string, text: string) => {
      writeFileSync(join(slow, name), `#!/bin/sh\n${text}\n`)
      chmodSync(join(slow, name), 0o755)
    }
    const hang = 'case "$*" in *-version*) echo "ffmpeg version 5.1";; *) exec sleep 60;; esac'
    script('ffmpeg', hang)
    script('ffprobe', hang)
    const media = toMediaOptions({ ffmpegPath: join(slow, 'ffmpeg'), videoTimeoutMs: 200 })
    const error = await failure(prepare(clip, {}, { media }))
    expect(error.code).toBe('ERR_VIDEO_TIMEOUT')
    expect(error.message).toMatch(/gave nothing for 0\.2 s .* Raise videoTimeoutMs/)
  })

  it('20 minutes of 720p: told at once, prepared in little memory', async () => {
    const film = clips.test(
      'film.mp4',
      'size=1280x720:rate=1/2:duration=1200',
      ...['-preset', 'ultrafast', '-crf', '40'],
    )
    const { info } = await measureVideo(film, {}, published, { index: 0 })
    // A frame has at least 105,369 pixels by the rule, whatever is left of the budget.
    expect(info).toMatchObject({
      frames: 600,
      resizedWidth: 420,
      resizedHeight: 224,
      tokens: 36000,
    })
    globalThis.gc?.()
    const before = process.memoryUsage().rss
    let peak = before
    const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), 10)
    const item = await prepare(film, { maxFrames: 120 })
    clearInterval(watch)
    expect(item.info).toMatchObject({ frames: 120 })
    const resized =
      item.native.frames.length * item.native.frames[0]!.width * item.native.frames[0]!.height * 3
    // All frames in full size would be 1,600 MB.
    expect(peak - before).toBeLessThan(resized + 150e6)
  }, 120_000)
})

describe('without ffmpeg', () => {
  afterEach(() => vi.unstubAllEnvs())

  it.each(['option', 'environment'])(
    'a path that does not work (%s) is not passed over',
    async (by) => {
      const path = '/nowhere/ffmpeg'
      vi.stubEnv('QWEN2_VL_FFMPEG', by === 'environment' ? path : undefined)
      const error = (await findFfmpeg(by === 'option' ? path : undefined).catch(
        (caught: unknown) => caught,
      )) as VideoError
      expect(error.code).toBe('ERR_FFMPEG_NOT_FOUND')
      expect(error.message).toMatch(/apt-get install ffmpeg.*ffmpegPath.*list of frames/)
      expect(error.details).toEqual({ tried: [path] })
    },
  )

  it('something else than ffmpeg is not taken for it', async () => {
    await expect(findFfmpeg('/bin/false')).rejects.toMatchObject({ code: 'ERR_FFMPEG_NOT_FOUND' })
  })
})

function endless(): VideoSource {
  return new Readable({
    read() {
      this.push(Buffer.alloc(50_000))
    },
  })
}
