/** The progress of a download: bars that are drawn over on a terminal, a line now and then elsewhere. */
import { bytesText } from '../bytes-text.js'
import type { DownloadProgress } from '../hub/progress.js'

/** What of a stream is used. */
export interface ProgressStream {
  isTTY?: boolean
  columns?: number
  write: (text: string) => unknown
}

export interface ProgressPrinter {
  show: (progress: DownloadProgress) => void
  /** Leaves the last state standing and the cursor below it. */
  end: () => void
}

const BAR_WIDTH = 24
const MAX_FILES = 4
/** Steps of what is written to a pipe or a log. */
const PLAIN_STEP = 0.1

/** Prints the progress of one download. */
export function progressPrinter(
  stream: ProgressStream,
  title: string,
  now: () => number = () => performance.now(),
): ProgressPrinter {
  return stream.isTTY ? barPrinter(stream, title, now) : plainPrinter(stream, title)
}

function barPrinter(stream: ProgressStream, title: string, now: () => number): ProgressPrinter {
  const rate = new Rate(now)
  let lines = 0
  const show = (progress: DownloadProgress) => {
    const { phase, loadedBytes, totalBytes, files } = progress
    rate.add(loadedBytes)
    const rows = files
      .slice(-MAX_FILES)
      .map((file) => row(file.name, file.loadedBytes, file.totalBytes, ''))
    const left = totalBytes - loadedBytes
    const speed =
      phase === 'download' && rate.perSecond > 0
        ? `${bytesText(rate.perSecond)}/s, ${duration(left / rate.perSecond)} left`
        : phaseNames[phase]
    rows.push(row(title, loadedBytes, totalBytes, speed))
    const width = (stream.columns ?? 80) - 1
    const text = rows.map((line) => `${line.slice(0, width)}\x1b[K\n`).join('')
    const up = lines > 0 ? `\x1b[${lines}A` : ''
    // Bars of files that are done go away: what is below is cleared.
    stream.write(`${up}${text}\x1b[J`)
    lines = rows.length
  }
  return { show, end: () => {} }
}

function plainPrinter(stream: ProgressStream, title: string): ProgressPrinter {
  let said = ''
  const show = ({ phase, loadedBytes, totalBytes }: DownloadProgress) => {
    const part = totalBytes > 0 ? loadedBytes / totalBytes : 0
    const step = Math.floor(part / PLAIN_STEP)
    const key = phase === 'download' ? `${phase} ${step}` : phase
    if (key === said) return
    said = key
    const amount = totalBytes > 0 ? ` ${bytesText(loadedBytes)} of ${bytesText(totalBytes)}` : ''
    stream.write(`${title}: ${phaseNames[phase]}${amount}\n`)
  }
  return { show, end: () => {} }
}

const phaseNames: Readonly<Record<DownloadProgress['phase'], string>> = {
  list: 'listing files',
  wait: 'waiting for the download of another process',
  download: 'downloading',
  verify: 'checking',
  ready: 'complete',
}

function row(name: string, loaded: number, total: number, note: string): string {
  const part = total > 0 ? Math.min(1, loaded / total) : 0
  const filled = Math.round(part * BAR_WIDTH)
  const bar = '█'.repeat(filled) + '░'.repeat(BAR_WIDTH - filled)
  const percent = `${Math.floor(part * 100)}`.padStart(3)
  return `${name.slice(-32).padEnd(32)} ${bar} ${percent} %  ${bytesText(loaded)}/${bytesText(total)}  ${note}`
}

/** Bytes a second over the last seconds. */
class Rate {
  readonly #now: () => number
  readonly #samples: { at: number; bytes: number }[] = []

  constructor(now: () => number) {
    this.#now = now
  }

  add(bytes: number): void {
    const at = this.#now()
    this.#samples.push({ at, bytes })
    while (this.#samples.length > 2 && at - (this.#samples[0]?.at ?? at) > 5000)
      this.#samples.shift()
  }

  get perSecond(): number {
    const first = this.#samples[0]
    const last = this.#samples.at(-1)
    if (!first || !last || last.at - first.at < 200) return 0
    return Math.max(0, ((last.bytes - first.bytes) * 1000) / (last.at - first.at))
  }
}

function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?'
  const whole = Math.ceil(seconds)
  if (whole < 60) return `${whole} s`
  const minutes = Math.floor(whole / 60)
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}
