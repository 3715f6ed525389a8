/** How far a download has come, told about twenty times a second. */

/** One file of a download. */
export interface DownloadFile {
  name: string
  /** Of it on the disk. */
  loadedBytes: number
  totalBytes: number
}

/** How far a download has come. */
export interface DownloadProgress {
  /**
   * `list`: the hub is asked for its files; `wait`: another process downloads the same model; `download`;
   * `verify`: checksums of what has come; `ready`: the end.
   */
  phase: 'list' | 'wait' | 'download' | 'verify' | 'ready'
  /** Of all files, what was on the disk before included. */
  loadedBytes: number
  totalBytes: number
  /** Those that are being downloaded, the largest last. */
  files: readonly DownloadFile[]
}

const INTERVAL_MS = 50

/** Gathers the progress of the files of one download. */
export class ProgressMeter {
  readonly #report: (progress: DownloadProgress) => void
  readonly #files = new Map<string, DownloadFile>()
  #totalBytes = 0
  #phase: DownloadProgress['phase'] = 'list'
  #last = -Infinity

  constructor(report: (progress: DownloadProgress) => void) {
    this.#report = report
  }

  phase(phase: DownloadProgress['phase']): void {
    this.#phase = phase
    this.#tell(true)
  }

  /** A file has come and is checked; once all have, that is what takes the time. */
  checking(): void {
    if (this.#loadedBytes() >= this.#totalBytes) this.phase('verify')
  }

  /** Bytes of all files together. */
  total(bytes: number): void {
    this.#totalBytes = bytes
  }

  /** So much of a file is there. */
  file(name: string, loadedBytes: number, totalBytes: number): void {
    this.#files.set(name, { name, loadedBytes, totalBytes })
    this.#tell(false)
  }

  add(name: string, bytes: number): void {
    const file = this.#files.get(name)
    if (!file) return
    file.loadedBytes += bytes
    this.#tell(false)
  }

  #loadedBytes(): number {
    let sum = 0
    for (const { loadedBytes } of this.#files.values()) sum += loadedBytes
    return sum
  }

  #tell(always: boolean): void {
    const now = performance.now()
    if (!always && now - this.#last < INTERVAL_MS) return
    this.#last = now
    this.#report({
      phase: this.#phase,
      loadedBytes: this.#loadedBytes(),
      totalBytes: this.#totalBytes,
      files: [...this.#files.values()]
        .filter(({ loadedBytes, totalBytes }) => loadedBytes < totalBytes)
        .sort((a, b) => a.totalBytes - b.totalBytes)
        .map((file) => ({ ...file })),
    })
  }
}
