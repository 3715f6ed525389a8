/** Finds ffmpeg and runs it as a child process that ends with whoever asked for it. */
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { VideoError } from '../errors.js'

/** An ffmpeg that answers, and the ffprobe beside it if there is one. */
export interface FfmpegTools {
  ffmpeg: string
  ffprobe: string | undefined
  /** As it names itself: numbers, or those of a commit. */
  version: string
  /** Whether it knows `-fps_mode`, which replaced `-vsync` in 5.1. */
  hasFpsMode: boolean
}

/** How a program is run. */
export interface RunOptions {
  signal?: AbortSignal | undefined
  /** The longest wait for the program's next output. */
  timeoutMs: number
}

const require = createRequire(import.meta.url)
const found = new Map<string, Promise<FfmpegTools>>()

/**
 * Finds ffmpeg: the path given, the environment variable QWEN2_VL_FFMPEG, the search path, and the
 * packages `ffmpeg-static` and `@ffmpeg-installer/ffmpeg` if one is installed, in this order. A
 * path that was named must work; only the others are tried in turn.
 *
 * @throws VideoError `ERR_FFMPEG_NOT_FOUND`.
 */
export async function findFfmpeg(path?: string): Promise<FfmpegTools> {
  const named = path ?? (process.env['QWEN2_VL_FFMPEG'] || undefined)
  const candidates = named === undefined ? ['ffmpeg', ...installedPackages()] : [named]
  const failures: string[] = []
  for (const candidate of candidates) {
    let tools = found.get(candidate)
    if (tools === undefined) {
      tools = examine(candidate)
      found.set(candidate, tools)
      tools.catch(() => found.delete(candidate)) // it may be installed by the next time
    }
    try {
      return await tools
    } catch (error) {
      failures.push(`${candidate}: ${(error as Error).message}`)
    }
  }
  throw new VideoError(
    'ERR_FFMPEG_NOT_FOUND',
    `Video files are decoded by ffmpeg, which was not found (${failures.join('; ')}). Install it ` +
      '(apt-get install ffmpeg, brew install ffmpeg, winget install ffmpeg, or npm install ' +
      'ffmpeg-static), or name it with loadModel(…, { ffmpegPath }) or QWEN2_VL_FFMPEG. Without ' +
      'ffmpeg, give the video as a list of frames.',
    { details: { tried: candidates } },
  )
}

/** Paths of the packages that carry an ffmpeg. */
function installedPackages(): string[] {
  const paths: string[] = []
  for (const name of ['ffmpeg-static', '@ffmpeg-installer/ffmpeg']) {
    try {
      const value = require(name) as unknown
      const path =
        typeof value === 'string' ? value : (value as { path?: unknown } | null | undefined)?.path
      if (typeof path === 'string') paths.push(path)
    } catch {
      // Not installed, or not for this platform.
    }
  }
  return paths
}

async function examine(ffmpeg: string): Promise<FfmpegTools> {
  const banner = await outputOf(ffmpeg, ['-hide_banner', '-version'])
  // Builds from a repository have names such as N-109-gabc instead of numbers, and are recent.
  const [, major, minor] = /version n?(\d+)\.(\d+)/.exec(banner) ?? []
  const hasFpsMode =
    major === undefined || Number(major) > 5 || (Number(major) === 5 && Number(minor) >= 1)
  const sibling = basename(ffmpeg).replace('ffmpeg', 'ffprobe')
  const folder = dirname(ffmpeg)
  const ffprobe = ffmpeg === basename(ffmpeg) ? sibling : join(folder, sibling)
  const probes =
    sibling !== basename(ffmpeg) &&
    (await outputOf(ffprobe, ['-hide_banner', '-version']).then(
      () => true,
      () => false,
    ))
  const [, version = 'unknown'] = /version (\S+)/.exec(banner) ?? []
  return { ffmpeg, ffprobe: probes ? ffprobe : undefined, version, hasFpsMode }
}

async function outputOf(program: string, args: readonly string[]): Promise<string> {
  const process = new FfmpegProcess(program, args, { timeoutMs: 10_000 })
  return (await process.text()).stdout
}

/** What a program printed. */
export interface ProgramOutput {
  stdout: string
  stderr: string
}

/** How many characters of stderr are kept: its end, where the reason stands. */
const STDERR_TAIL = 4096

/** One run of a program. Whatever happens, `close()` ends it. */
export class FfmpegProcess {
  readonly #child: ChildProcessByStdio<null, Readable, Readable>
  readonly #ended: Promise<number | Error>
  readonly #options: RunOptions
  readonly #onAbort = () => this.#child.kill('SIGKILL')
  #stderr = ''
  #timedOut = false

  constructor(program: string, args: readonly string[], options: RunOptions) {
    options.signal?.throwIfAborted()
    this.#options = options
    this.#child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      windowsHide: true,
    })
    this.#child.stderr.setEncoding('utf8')
    this.#child.stderr.on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_TAIL)
    })
    this.#ended = new Promise((resolve) => {
      this.#child.once('error', resolve)
      this.#child.once('close', (code, signal) => resolve(code ?? new Error(`ended by ${signal}`)))
    })
    options.signal?.addEventListener('abort', this.#onAbort, { once: true })
  }

  /** The end of what the program printed as errors, without empty lines. */
  get errors(): string {
    return this.#stderr
      .split(/[\r\n]+/)
      .map((line) => line.trim())
      .filter((line) => line !== '')
      .join('\n')
  }

  /**
   * The pieces of stdout as they come; reading slowly slows the program down.
   *
   * @throws the signal's reason; VideoError `ERR_VIDEO_TIMEOUT`.
   */
  async *chunks(): AsyncGenerator<Buffer, void, undefined> {
    const reader = this.#child.stdout[Symbol.asyncIterator]() as AsyncIterator<Buffer, void>
    for (;;) {
      const { done, value } = await this.#timed(reader.next())
      if (done) return
      yield value
    }
  }

  /**
   * Waits for the end.
   *
   * @throws Error when the program could not be started or was killed; the signal's reason;
   *   VideoError `ERR_VIDEO_TIMEOUT`.
   */
  async exitCode(): Promise<number> {
    const result = await this.#timed(this.#ended)
    this.#options.signal?.throwIfAborted()
    if (typeof result !== 'number') throw result
    return result
  }

  /** Everything the program prints, which must be little. Throws unless it succeeds. */
  async text(): Promise<ProgramOutput> {
    try {
      const chunks: Buffer[] = []
      for await (const chunk of this.chunks()) chunks.push(chunk)
      const code = await this.exitCode()
      if (code !== 0) throw new Error(this.errors || `it ended with code ${code}`)
      return { stdout: Buffer.concat(chunks).toString(), stderr: this.#stderr }
    } finally {
      await this.close()
    }
  }

  /** Ends the program and waits until it has. */
  async close(): Promise<void> {
    this.#options.signal?.removeEventListener('abort', this.#onAbort)
    this.#child.kill('SIGKILL')
    this.#child.stdout.destroy()
    await this.#ended
  }

  /** Waits for one step of the program, which is killed when the step takes too long. */
  async #timed<T>(step: Promise<T>): Promise<T> {
    const { timeoutMs, signal } = this.#options
    const timer = setTimeout(() => {
      this.#timedOut = true
      this.#child.kill('SIGKILL')
    }, timeoutMs)
    try {
      const result = await step
      signal?.throwIfAborted()
      if (this.#timedOut) throw this.#timeoutError()
      return result
    } catch (error) {
      signal?.throwIfAborted()
      throw this.#timedOut ? this.#timeoutError() : error
    } finally {
      clearTimeout(timer)
    }
  }

  #timeoutError(): VideoError {
    return new VideoError(
      'ERR_VIDEO_TIMEOUT',
      `ffmpeg gave nothing for ${this.#options.timeoutMs / 1000} s and was ended. Raise videoTimeoutMs, ` +
        'or send a smaller video.',
      { details: { timeoutMs: this.#options.timeoutMs } },
    )
  }
}
