/**
 * A lock between processes: a file that only one of them can create. It names its owner, who touches it now and
 * then, so that the lock of a process that was killed is taken over.
 */
import { randomUUID } from 'node:crypto'
import { link, mkdir, open, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises'
import { hostname } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

interface Owner {
  pid: number
  host: string
  /** When the process started, in ms: process ids come again. */
  started: number
  token: string
}

/** Times in milliseconds. */
export interface LockTiming {
  pollMs: number
  touchMs: number
  /** So long untouched, a lock belongs to nobody, whatever became of its owner. */
  staleMs: number
}

const DEFAULT_TIMING: LockTiming = { pollMs: 100, touchMs: 5_000, staleMs: 30_000 }

const started = Math.round(Date.now() - process.uptime() * 1000)

/** A lock that is held. */
export interface FileLock {
  /** Aborts if another process took the lock over, because this one slept too long. */
  lost: AbortSignal
  release: () => Promise<void>
}

/**
 * Waits for the lock and takes it.
 *
 * @param signal ends the wait.
 * @param onWait called once, when somebody else has it.
 */
export async function acquireLock(
  path: string,
  signal: AbortSignal,
  onWait: (owner: number | undefined) => void = () => {},
  timing = DEFAULT_TIMING,
): Promise<FileLock> {
  const owner: Owner = { pid: process.pid, host: hostname(), started, token: randomUUID() }
  await mkdir(dirname(path), { recursive: true })
  for (let told = false; ;) {
    signal.throwIfAborted()
    if (await create(path, owner)) {
      await sweep(path, timing)
      return hold(path, owner, timing)
    }
    const other = await readOwner(path)
    if (await isStale(path, other, timing)) await takeAway(path, other)
    else {
      if (!told) onWait(other?.pid)
      told = true
      await delay(timing.pollMs, undefined, { signal }).catch(() => signal.throwIfAborted())
    }
  }
}

/** The file appears with its contents or not at all: a link to a finished one. */
async function create(path: string, owner: Owner): Promise<boolean> {
  const draft = `${path}.${owner.token}`
  try {
    await writeNew(draft, JSON.stringify(owner))
    await link(draft, path)
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return false
    // No hard links on this file system: what is left is a moment in which the file is empty.
    if (code === 'EPERM' || code === 'ENOTSUP' || code === 'ENOSYS') {
      return await writeNew(path, JSON.stringify(owner)).then(
        () => true,
        (cause: unknown) => {
          if ((cause as NodeJS.ErrnoException).code === 'EEXIST') return false
          throw cause
        },
      )
    }
    throw error
  } finally {
    await rm(draft, { force: true })
  }
}

/** Removes what processes that were killed while they took the lock have left beside it. */
async function sweep(path: string, { staleMs }: LockTiming): Promise<void> {
  const folder = dirname(path)
  for (const name of await readdir(folder)) {
    if (!name.startsWith(`${basename(path)}.`)) continue
    const info = await stat(join(folder, name)).catch(() => undefined) // gone by itself
    if (info && Date.now() - info.mtimeMs > staleMs) await rm(join(folder, name), { force: true })
  }
}

async function writeNew(path: string, text: string): Promise<void> {
  await using handle = await open(path, 'wx')
  await handle.writeFile(text)
}

async function readOwner(path: string): Promise<Owner | undefined> {
  try {
    const owner = JSON.parse(await readFile(path, 'utf8')) as Partial<Owner>
    const isOwner =
      typeof owner.pid === 'number' && owner.pid > 0 && typeof owner.token === 'string'
    return isOwner ? (owner as Owner) : undefined
  } catch {
    return undefined // gone, or not written yet
  }
}

async function isStale(
  path: string,
  owner: Owner | undefined,
  timing: LockTiming,
): Promise<boolean> {
  const info = await stat(path).catch(() => undefined) // gone: the next try takes it
  if (!info) return false
  if (Date.now() - info.mtimeMs > timing.staleMs) return true
  if (owner?.host !== hostname()) return false // its processes cannot be seen from here
  // The same id in an earlier life, as in a container that was started again.
  if (owner.pid === process.pid) return Math.abs(owner.started - started) > 2_000
  return !isAlive(owner.pid)
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}

/** Removes the lock of `owner` and no other: between looking and taking, somebody else may have done it. */
async function takeAway(path: string, owner: Owner | undefined): Promise<void> {
  if ((await readOwner(path))?.token !== owner?.token) return
  const away = `${path}.${randomUUID()}.stale`
  try {
    await rename(path, away)
  } catch {
    return // somebody else was first
  }
  // It was a fresh one after all: back to its place, unless that is taken. Its owner notices if so.
  if ((await readOwner(away))?.token !== owner?.token) await link(away, path).catch(() => {})
  await rm(away, { force: true })
}

function hold(path: string, owner: Owner, timing: LockTiming): FileLock {
  const lost = new AbortController()
  const isMine = async () => (await readOwner(path))?.token === owner.token
  const touch = async () => {
    if (!(await isMine())) {
      clearInterval(timer)
      lost.abort(new Error(`The lock ${path} was taken over by another process.`))
      return
    }
    const now = new Date()
    await utimes(path, now, now).catch(() => {}) // the next look tells
  }
  const timer = setInterval(() => void touch(), timing.touchMs)
  timer.unref()
  return {
    lost: lost.signal,
    release: async () => {
      clearInterval(timer)
      if (await isMine()) await rm(path, { force: true })
    },
  }
}
