/** Whether video files can be decoded, and by what. */
import { access, constants } from 'node:fs/promises'
import { delimiter, isAbsolute, join } from 'node:path'
import { findFfmpeg } from '../processor/ffmpeg.js'
import type { Finding } from './finding.js'

/** Where ffmpeg was found. Without one, everything but video files works. */
export async function ffmpegFinding(): Promise<Finding> {
  const topic = 'ffmpeg'
  try {
    const { ffmpeg, ffprobe, version } = await findFfmpeg()
    const path = isAbsolute(ffmpeg) ? ffmpeg : ((await onSearchPath(ffmpeg)) ?? ffmpeg)
    const why = process.env['QWEN2_VL_FFMPEG']
      ? 'named by the variable QWEN2_VL_FFMPEG'
      : isAbsolute(ffmpeg)
        ? 'of an installed package'
        : 'on the search path'
    const probe = ffprobe === undefined ? '; no ffprobe beside it' : ''
    const summary = `${version}: ${path}, ${why}${probe}`
    return { topic, status: 'ok', summary, facts: { path, version, ffprobe: ffprobe ?? null, why } }
  } catch (error) {
    return {
      topic,
      status: 'warning',
      summary: 'not found; videos can be given as lists of frames only',
      remedy: (error as Error).message,
      facts: { path: null },
    }
  }
}

async function onSearchPath(name: string): Promise<string | undefined> {
  const names = process.platform === 'win32' ? [`${name}.exe`, `${name}.cmd`] : [name]
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    for (const each of names) {
      const path = join(folder, each)
      const found = await access(path, constants.X_OK).then(
        () => true,
        () => false, // not here
      )
      if (found) return path
    }
  }
  return undefined
}
