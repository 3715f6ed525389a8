/** Short films made by ffmpeg for the tests, in a folder that is removed afterwards. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Whether the tests of video files can run. In CI they must, so that ffmpeg's absence fails there. */
export const hasFfmpeg = (() => {
  try {
    execFileSync('ffmpeg', ['-version'], { stdio: 'ignore' })
    return true
  } catch {
    if (process.env['CI']) return true
    console.warn('Tests of video files are skipped: there is no ffmpeg on the search path.')
    return false
  }
})()

/** A folder for clips. */
export class ClipFolder {
  readonly path = mkdtempSync(join(tmpdir(), 'qwen2-vl-clips-'))

  /** Runs ffmpeg with the arguments and the path of `name` behind them; returns the path. */
  make(name: string, ...args: string[]): string {
    const path = join(this.path, name)
    execFileSync('ffmpeg', ['-v', 'error', '-nostdin', '-y', ...args, path])
    return path
  }

  /** A film of ffmpeg's test picture, which shows its own time. */
  test(name: string, source: string, ...args: string[]): string {
    return this.make(name, '-f', 'lavfi', '-i', `testsrc=${source}`, ...args)
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}
