/**
 * Which bytes of a partial file are there: a text file with a line `offset length` for every piece, written
 * after the piece itself. A process that is killed loses a line at most, never has one too many.
 */
import { open, readFile, type FileHandle } from 'node:fs/promises'
import { writeAtomically } from './tree-file.js'

/** From `start` to before `end`, in bytes. */
export interface Span {
  start: number
  end: number
}

/** Sorted spans that neither touch nor overlap. */
export function mergeSpans(spans: readonly Span[]): Span[] {
  const merged: Span[] = []
  for (const { start, end } of [...spans].sort((a, b) => a.start - b.start)) {
    const last = merged.at(-1)
    if (last && start <= last.end) last.end = Math.max(last.end, end)
    else merged.push({ start, end })
  }
  return merged
}

/** What `spans`, as {@link mergeSpans} gives them, leave out of a file, in pieces of at most `pieceBytes`. */
export function missingPieces(spans: readonly Span[], size: number, pieceBytes: number): Span[] {
  const pieces: Span[] = []
  let at = 0
  for (const { start, end } of [...spans, { start: size, end: size }]) {
    while (at < start) {
      const stop = Math.min(at + pieceBytes, start)
      pieces.push({ start: at, end: stop })
      at = stop
    }
    at = end
  }
  return pieces
}

/** The record of one partial file. */
export class Ledger {
  readonly #handle: FileHandle
  readonly spans: readonly Span[]

  private constructor(handle: FileHandle, spans: readonly Span[]) {
    this.#handle = handle
    this.spans = spans
  }

  /** @param fileSize of the partial file: what is said to lie beyond it does not count. */
  static async open(path: string, fileSize: number): Promise<Ledger> {
    const spans = await readSpans(path, fileSize)
    // Written anew, so that a line that was cut short does not run into the next.
    await writeAtomically(path, spans.map(toLine).join(''))
    return new Ledger(await open(path, 'a'), spans)
  }

  /** Call it when the bytes have been written. */
  async add(span: Span): Promise<void> {
    await this.#handle.write(toLine(span))
  }

  close(): Promise<void> {
    return this.#handle.close()
  }
}

function toLine({ start, end }: Span): string {
  return `${start} ${end - start}\n`
}

/** Nothing where there is no ledger. */
export async function readSpans(path: string, fileSize: number): Promise<Span[]> {
  const text = await readFile(path, 'latin1').catch(() => '') // none yet
  const spans: Span[] = []
  for (const [, offset, length] of text.matchAll(/^(\d{1,15}) (\d{1,15})\n/gm)) {
    const start = Number(offset)
    const end = Math.min(start + Number(length), fileSize)
    if (start < end) spans.push({ start, end })
  }
  return mergeSpans(spans)
}
