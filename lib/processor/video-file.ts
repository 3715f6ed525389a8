/** Looks into video files and takes single frames out of them, with ffmpeg. */
import { VideoError } from '../errors.js'
import { FfmpegProcess, type FfmpegTools, type RunOptions } from './ffmpeg.js'
import type { Size } from './smart-resize.js'

/** What a container says about its video. */
export interface VideoFacts extends Size {
  /** Frames, as the container counts them, or else counted. */
  frames: number
  /** Average frames a second. */
  fps: number
}

/** A decoded frame, RGB with 8 bits a sample. */
export interface DecodedFrame extends Size {
  /** Valid until the second next frame is asked for: two buffers take turns. */
  data: Buffer
}

/**
 * Containers that are opened. Playlists and other lists are not among them: they name files and
 * addresses to read.
 */
const FORMATS = [
  ...['mov', 'matroska', 'webm', 'avi', 'mpegts', 'mpeg', 'mpegvideo', 'flv', 'asf', 'ogg', 'nut'],
  ...['gif', 'apng', 'h264', 'hevc', 'm4v', 'ivf', 'mxf', 'rm', 'wtv', 'dv', 'obu', 'av1'],
  ...['yuv4mpegpipe', 'mjpeg', 'swf', 'vc1', 'h263', 'h261', 'cavsvideo', 'gxf', 'mxg'],
].join(',')

const inputArgs = (path: string) => [
  ...['-protocol_whitelist', 'file', '-format_whitelist', FORMATS],
  ...['-i', `file:${path}`],
]
/** The first video stream that is no cover picture. */
const STREAM = 'V:0'

/**
 * Size, frame count and rate, without decoding.
 *
 * @throws VideoError `ERR_VIDEO_DECODE` for what is no video, `ERR_VIDEO_NO_STREAM` for a file without
 *   pictures that move.
 */
export async function probeVideo(
  path: string,
  tools: FfmpegTools,
  options: RunOptions,
): Promise<VideoFacts> {
  const facts = tools.ffprobe
    ? await probeWithFfprobe(path, tools.ffprobe, options)
    : await probeWithFfmpeg(path, tools.ffmpeg, options)
  if (facts === undefined) {
    throw new VideoError(
      'ERR_VIDEO_NO_STREAM',
      'the file has no video stream. Send a video; pictures are sent as images.',
    )
  }
  const { width, height, frames, fps } = facts
  if (width > 0 && height > 0 && frames > 0 && fps > 0 && Number.isFinite(fps)) return facts
  throw new VideoError(
    'ERR_VIDEO_DECODE',
    `the file does not say what it holds: ${width} x ${height} pixels, ${frames} frames, ${fps} a ` +
      'second. Convert it (ffmpeg -i in -c:v libx264 out.mp4).',
    { details: { ...facts } },
  )
}

/** Frames that can be decoded, for a file that promises others. */
export async function countFrames(
  path: string,
  { ffmpeg, hasFpsMode }: FfmpegTools,
  options: RunOptions,
): Promise<number> {
  const { stdout } = await run(ffmpeg, options, [
    ...['-hide_banner', '-nostdin', '-v', 'error', ...inputArgs(path), '-map', `0:${STREAM}`],
    ...[hasFpsMode ? '-fps_mode' : '-vsync', 'passthrough'],
    ...['-f', 'null', '-progress', 'pipe:1', '-'],
  ])
  return Number([...stdout.matchAll(/^frame=(\d+)/gm)].at(-1)?.[1] ?? 0)
}

interface ProbedStream {
  width?: number
  height?: number
  nb_frames?: string
  nb_read_packets?: string
  avg_frame_rate?: string
  r_frame_rate?: string
  tags?: { rotate?: string }
  side_data_list?: { rotation?: number }[]
}

async function probeWithFfprobe(
  path: string,
  ffprobe: string,
  options: RunOptions,
): Promise<VideoFacts | undefined> {
  const ask = async (...args: string[]): Promise<ProbedStream | undefined> => {
    const fields = 'width,height,nb_frames,nb_read_packets,avg_frame_rate,r_frame_rate'
    const output = await run(ffprobe, options, [
      ...['-v', 'error', '-select_streams', STREAM, ...args],
      ...['-show_entries', `stream=${fields}:stream_tags=rotate:stream_side_data=rotation`],
      ...['-of', 'json', ...inputArgs(path)],
    ])
    return (JSON.parse(output.stdout) as { streams?: ProbedStream[] }).streams?.[0]
  }
  const stream = await ask()
  if (stream === undefined) return undefined
  const counted = Number(stream.nb_frames)
  const frames = counted > 0 ? counted : Number((await ask('-count_packets'))?.nb_read_packets)
  const rotation =
    stream.side_data_list?.find((data) => data.rotation !== undefined)?.rotation ??
    Number(stream.tags?.rotate ?? 0)
  const size = { width: stream.width ?? 0, height: stream.height ?? 0 }
  return {
    ...upright(size, rotation),
    frames,
    fps: ratio(stream.avg_frame_rate) || ratio(stream.r_frame_rate),
  }
}

/** From the text for people that ffmpeg prints, after a pass over all packets. */
async function probeWithFfmpeg(
  path: string,
  ffmpeg: string,
  options: RunOptions,
): Promise<VideoFacts | undefined> {
  let text: string
  try {
    const args = ['-hide_banner', '-nostdin', ...inputArgs(path), '-map', `0:${STREAM}`]
    text = (await run(ffmpeg, options, [...args, '-c', 'copy', '-f', 'null', '-'])).stderr
  } catch (error) {
    if (error instanceof VideoError && /matches no streams/.test(error.message)) return undefined
    throw error
  }
  return readFfmpegText(text)
}

/** What ffmpeg prints about its input and its progress, as facts. */
export function readFfmpegText(text: string): VideoFacts | undefined {
  const [, width, height, rest] = /Stream #0:\d+.*?: Video: .*?, (\d+)x(\d+)(.*)/.exec(text) ?? []
  if (width === undefined || height === undefined) return undefined
  const [, shownRate = '0', thousands] = /([\d.]+)(k?) fps/.exec(rest ?? '') ?? []
  const [, rotation = '0'] = /rotation of (-?[\d.]+) degrees/.exec(text) ?? []
  const frames = [...text.matchAll(/frame=\s*(\d+)/g)].at(-1)?.[1]
  return {
    ...upright({ width: Number(width), height: Number(height) }, Number(rotation)),
    frames: Number(frames ?? 0),
    fps: exactRate(Number(shownRate) * (thousands === 'k' ? 1000 : 1)),
  }
}

/** Rates are shown with two digits: 29.97 is 30000 / 1001. */
function exactRate(shown: number): number {
  const ntsc = (Math.round(shown * 1.001) * 1000) / 1001
  return !Number.isInteger(shown) && Math.abs(ntsc - shown) < 0.006 ? ntsc : shown
}

/** Frames are decoded upright, as their rotation says. */
function upright({ width, height }: Size, rotation: number): Size {
  const turned = Math.abs(Math.round(rotation / 90)) % 2 === 1
  return turned ? { width: height, height: width } : { width, height }
}

function ratio(text: string | undefined): number {
  const [numerator = 0, denominator = 1] = (text ?? '').split('/').map(Number)
  return denominator > 0 ? numerator / denominator : 0
}

async function run(program: string, options: RunOptions, args: readonly string[]) {
  const process = new FfmpegProcess(program, args, options)
  try {
    return await process.text()
  } catch (error) {
    options.signal?.throwIfAborted()
    if (error instanceof VideoError) throw error
    throw decodeError((error as Error).message, error)
  }
}

/** The conversion to RGB: exact arithmetic, the chroma interpolated, the same on every processor. */
const TO_RGB =
  'scale=flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact,format=rgb24'

/**
 * Whether frame number n is among the indices, as an expression of ffmpeg. A tree of comparisons: a
 * sum of several hundred is more than ffmpeg parses.
 */
function isWanted(indices: readonly number[]): string {
  if (indices.length === 1) return `eq(n,${indices[0]})`
  const half = Math.floor(indices.length / 2)
  const [left, right] = [indices.slice(0, half), indices.slice(half)]
  return `if(lt(n,${right[0]}),${isWanted(left)},${isWanted(right)})`
}

/**
 * The frames with the given indices, in increasing order, one at a time: ffmpeg waits while a frame
 * is worked on. Fewer come where the file has fewer than its container says.
 *
 * @throws VideoError `ERR_VIDEO_DECODE` for a file that is damaged or cut short.
 */
export async function* decodeFrames(
  path: string,
  indices: readonly number[],
  tools: FfmpegTools,
  options: RunOptions,
): AsyncGenerator<DecodedFrame, void, undefined> {
  const process = new FfmpegProcess(
    tools.ffmpeg,
    [
      ...['-hide_banner', '-nostdin', '-v', 'error', '-xerror', ...inputArgs(path)],
      ...['-map', `0:${STREAM}`, '-vf', `select='${isWanted(indices)}',${TO_RGB}`],
      // Frames as they are, whatever their time stamps: none repeated, none dropped.
      ...[tools.hasFpsMode ? '-fps_mode' : '-vsync', 'passthrough'],
      ...['-frames:v', String(indices.length), '-f', 'image2pipe', '-c:v', 'ppm', 'pipe:1'],
    ],
    options,
  )
  try {
    let frames = 0
    for await (const frame of readPpm(process.chunks())) {
      frames += 1
      yield frame
    }
    const code = await process.exitCode()
    if (frames === indices.length) return
    if (code !== 0 || process.errors !== '') throw decodeError(process.errors)
  } catch (error) {
    options.signal?.throwIfAborted()
    throw error instanceof VideoError ? error : decodeError((error as Error).message, error)
  } finally {
    await process.close()
  }
}

function decodeError(reason: string, cause?: unknown): VideoError {
  const shown = reason.replaceAll('\n', '; ').slice(-600) || 'ffmpeg gave no reason'
  return new VideoError(
    'ERR_VIDEO_DECODE',
    `the file cannot be decoded (${shown}). Send a whole video file, or convert it ` +
      '(ffmpeg -i in -c:v libx264 out.mp4).',
    { cause, details: { stderr: reason } },
  )
}

/** Cuts a stream of binary PPM pictures apart. */
async function* readPpm(
  chunks: AsyncIterable<Buffer>,
): AsyncGenerator<DecodedFrame, void, undefined> {
  const buffers = [Buffer.alloc(0), Buffer.alloc(0)]
  let head: Buffer = Buffer.alloc(0)
  let frame: DecodedFrame | undefined
  let filled = 0
  for await (let chunk of chunks) {
    while (chunk.length > 0) {
      if (frame === undefined) {
        head = Buffer.concat([head, chunk])
        const match = /^P6\s(\d+)\s(\d+)\s255\s/.exec(head.toString('latin1', 0, 64))
        if (match === null) {
          if (head.length >= 64) throw decodeError('ffmpeg gave something else than pictures')
          break
        }
        const [text, width, height] = match
        chunk = head.subarray(text.length)
        head = Buffer.alloc(0)
        const size = { width: Number(width), height: Number(height) }
        const bytes = size.width * size.height * 3
        const oldest = buffers.shift()
        const data = oldest?.length === bytes ? oldest : Buffer.allocUnsafeSlow(bytes)
        buffers.push(data)
        frame = { data, ...size }
        filled = 0
        continue
      }
      const taken = chunk.copy(frame.data, filled)
      filled += taken
      chunk = chunk.subarray(taken)
      if (filled < frame.data.length) break
      yield frame
      frame = undefined
    }
  }
}
