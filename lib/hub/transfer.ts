/** Brings one file into the cache: in ranges side by side, going on where an earlier try ended, checked. */
import { constants } from 'node:fs'
import { mkdir, open, rename, rm, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { ChecksumError } from '../errors.js'
import type { Limiter } from '../generation/limiter.js'
import { diskError } from './disk-space.js'
import {
  openUrl,
  reasonOf,
  TransientError,
  withRetries,
  type Answer,
  type HubClient,
} from './http.js'
import { Ledger, missingPieces, type Span } from './ledger.js'
import type { ModelLayout } from './layout.js'
import type { ProgressMeter } from './progress.js'
import { hashFile, type RemoteFile } from './remote-file.js'
import { refusal } from './sources.js'

/** What the files of one download share. */
export interface TransferContext {
  client: HubClient
  layout: ModelLayout
  meter: ProgressMeter
  /** Lets so many requests run at a time. */
  slots: Limiter
}

/** Largest range of one request: an answer that breaks is resumed anyway. */
const PIECE_BYTES = 64 << 20
/** Bytes that are written at once; a process that is killed loses no more of one connection. */
const WRITE_BYTES = 1 << 20

/** A server that answers ranges with the whole file. */
class RangesIgnored extends Error {}

/**
 * Downloads `file` into its blob.
 *
 * @throws ChecksumError when what comes is not the file, twice.
 * @throws DownloadError for everything else; what has come stays for the next time.
 */
export async function fetchBlob(file: RemoteFile, context: TransferContext): Promise<void> {
  const { layout, client } = context
  const partial = layout.partial(file.hash)
  await mkdir(dirname(partial), { recursive: true })
  try {
    for (let damaged = 0; ; damaged++) {
      await fetchParts(file, partial, context)
      context.meter.checking()
      const found = await hashFile(partial, file, client.signal)
      if (found === file.hash) break
      await rm(partial, { force: true })
      await rm(layout.parts(file.hash), { force: true })
      context.meter.file(file.name, 0, file.size)
      if (damaged === 1) throw damagedFile(file, found)
    }
    await rename(partial, layout.blob(file.hash))
    await rm(layout.parts(file.hash), { force: true })
  } catch (error) {
    client.signal.throwIfAborted()
    throw diskError(error, partial)
  }
}

function damagedFile({ name, url, algorithm, hash }: RemoteFile, found: string): ChecksumError {
  const address = url.split('?')[0]
  return new ChecksumError(
    `${name} came with the ${algorithm === 'git' ? 'git hash' : 'SHA-256'} ${found}, twice; the hub says ${hash}. ` +
      `Nothing of it was kept. Something between here and ${address} changes files: a proxy, or a damaged mirror.`,
    { details: { url: address, file: name, expected: hash, found } },
  )
}

/** Fills the partial file. */
async function fetchParts(
  file: RemoteFile,
  partial: string,
  context: TransferContext,
): Promise<void> {
  const { layout, meter, client } = context
  const handle = await open(partial, constants.O_RDWR | constants.O_CREAT, 0o644)
  try {
    const ledger = await Ledger.open(layout.parts(file.hash), (await handle.stat()).size)
    try {
      const pieces = missingPieces(ledger.spans, file.size, PIECE_BYTES)
      const missing = pieces.reduce((sum, { start, end }) => sum + end - start, 0)
      meter.file(file.name, file.size - missing, file.size)
      await allOrNone(client, pieces, (piece, inner) =>
        context.slots.run(() =>
          fetchPiece(file, piece, handle, ledger, { ...context, client: inner }),
        ),
      ).catch(async (error: unknown) => {
        if (!(error instanceof RangesIgnored)) throw error
        meter.file(file.name, 0, file.size)
        await context.slots.run(() => fetchWhole(file, handle, context))
      })
      // Longer only if it was left by something else: nothing beyond the size is ever written.
      await handle.truncate(file.size)
      await handle.sync()
    } finally {
      await ledger.close()
    }
  } finally {
    await handle.close()
  }
}

/** Does all at once; the first failure ends the others, and is thrown when they have ended. */
export async function allOrNone<T>(
  client: HubClient,
  items: readonly T[],
  work: (item: T, client: HubClient) => Promise<void>,
): Promise<void> {
  const failed = new AbortController()
  const inner = { ...client, signal: AbortSignal.any([client.signal, failed.signal]) }
  let first: { error: unknown } | undefined
  await Promise.all(
    items.map((item) =>
      work(item, inner).catch((error: unknown) => {
        first ??= { error }
        failed.abort(error)
      }),
    ),
  )
  if (first) throw first.error
}

/** One range; after a broken connection only what is missing of it is asked for again. */
async function fetchPiece(
  file: RemoteFile,
  piece: Span,
  handle: FileHandle,
  ledger: Ledger,
  { client, layout, meter }: TransferContext,
): Promise<void> {
  let at = piece.start
  await withRetries(client, async (signal, { alive, progress }) => {
    if (at === piece.end) return // the answer before was too long
    const whole = at === 0 && piece.end === file.size
    const headers: Record<string, string> = whole ? {} : { range: `bytes=${at}-${piece.end - 1}` }
    const answer = await openUrl(client, file.url, headers, signal)
    await checkAnswer(answer, file, layout.id, client)
    if (!whole) await checkRange(answer, at, file)
    await writeBody(
      answer,
      piece.end - at,
      signal,
      async (bytes) => {
        await writeFully(handle, bytes, at)
        await ledger.add({ start: at, end: at + bytes.length })
        at += bytes.length
        meter.add(file.name, bytes.length)
        progress()
      },
      alive,
    )
  })
}

/** The whole file in one answer, from the beginning at every try: all that a server without ranges allows. */
async function fetchWhole(
  file: RemoteFile,
  handle: FileHandle,
  { client, layout, meter }: TransferContext,
): Promise<void> {
  await withRetries(client, async (signal, { alive }) => {
    let at = 0
    const answer = await openUrl(client, file.url, {}, signal)
    await checkAnswer(answer, file, layout.id, client)
    await writeBody(
      answer,
      file.size,
      signal,
      async (bytes) => {
        await writeFully(handle, bytes, at)
        at += bytes.length
        meter.file(file.name, at, file.size)
      },
      alive,
    )
  })
}

async function checkAnswer(
  answer: Answer,
  file: RemoteFile,
  id: string,
  client: HubClient,
): Promise<void> {
  if (!answer.response.ok) throw await refusal(client, id, answer)
  if (answer.linkedEtag === undefined || answer.linkedEtag === file.hash) return
  await answer.response.body?.cancel()
  throw new ChecksumError(
    `The hub's list says that ${file.name} has the hash ${file.hash}, its file says ${answer.linkedEtag}. Start ` +
      'again; if that does not help, the mirror is out of step: use another endpoint.',
    { details: { url: answer.url, file: file.name } },
  )
}

async function checkRange(answer: Answer, start: number, { size }: RemoteFile): Promise<void> {
  const { status, headers } = answer.response
  if (status === 206) {
    const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get('content-range') ?? '')
    if (range && Number(range[1]) === start && (range[2] === '*' || Number(range[2]) === size))
      return
  }
  await answer.response.body?.cancel()
  if (status !== 206) throw new RangesIgnored()
  throw new TransientError(`it answers with another range than was asked for`, answer.url)
}

/** Hands on exactly `length` bytes, in large pieces; what came before a failure as well. */
async function writeBody(
  { response, url }: Answer,
  length: number,
  signal: AbortSignal,
  write: (bytes: Buffer) => Promise<void>,
  alive: () => void,
): Promise<void> {
  let chunks: Uint8Array[] = []
  let pending = 0
  let left = length
  const flush = async () => {
    if (pending === 0) return
    const bytes = Buffer.concat(chunks)
    chunks = []
    pending = 0
    await write(bytes)
  }
  try {
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      const bytes = chunk.subarray(0, left)
      left -= bytes.length
      chunks.push(bytes)
      pending += bytes.length
      alive()
      if (pending >= WRITE_BYTES) await flush()
      if (bytes.length < chunk.length)
        throw new TransientError('it sends more than was asked for', url)
    }
  } catch (cause) {
    await flush()
    if (signal.aborted) throw signal.reason
    if (cause instanceof TransientError || isDiskError(cause)) throw cause
    throw new TransientError(`the connection broke (${reasonOf(cause)})`, url, { cause })
  }
  await flush()
  if (left > 0) throw new TransientError(`the connection ended ${left} bytes early`, url)
}

function isDiskError(error: unknown): boolean {
  return typeof (error as NodeJS.ErrnoException).syscall === 'string' && !isNetworkError(error)
}

function isNetworkError(error: unknown): boolean {
  return /^(read|connect|getaddrinfo)$/.test((error as NodeJS.ErrnoException).syscall ?? '')
}

async function writeFully(handle: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done)
    done += bytesWritten
  }
}
