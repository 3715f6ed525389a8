/** A file as the hub describes it, and how to check that what came is it. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import type { TreeEntry } from './tree-file.js'

/** A file of a repository at one commit. */
export interface RemoteFile {
  /** Its name in the root of the repository; no path. */
  name: string
  /** Bytes. */
  size: number
  /** `sha256` of large files; `git` is the SHA-1 that git gives a blob, of small ones. */
  algorithm: 'sha256' | 'git'
  /** Hexadecimal; also the blob's name in the cache. */
  hash: string
  url: string
}

/** The files of one commit. */
export interface RemoteTree {
  /** 40 hexadecimal digits. */
  commit: string
  /** Of the root only. */
  files: RemoteFile[]
  /** All files as the cache keeps them, where the source says as much. */
  entries: Readonly<Record<string, TreeEntry>>
}

/** The hash of a file on the disk, in the file's own kind. */
export async function hashFile(
  path: string,
  { algorithm, size }: Pick<RemoteFile, 'algorithm' | 'size'>,
  signal: AbortSignal,
  onBytes: (bytes: number) => void = () => {},
): Promise<string> {
  const hash = createHash(algorithm === 'sha256' ? 'sha256' : 'sha1')
  if (algorithm === 'git') hash.update(`blob ${size}\0`)
  // A mebibyte takes a millisecond: the event loop stays free.
  const stream = createReadStream(path, { highWaterMark: 1 << 20, signal })
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    hash.update(chunk)
    onBytes(chunk.length)
  }
  return hash.digest('hex')
}
