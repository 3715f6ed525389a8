/** The listing of a commit on the disk, `trees/<commit>.json`, in the form huggingface_hub keeps it. */
import { randomUUID } from 'node:crypto'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'

/** One file of a listing. */
export interface TreeEntry {
  size: number
  blob_id: string
  lfs_sha256?: string
  lfs_size?: number
  xet_hash?: string
}

const FORMAT_VERSION = 1

/** Sizes of the files of a commit; undefined where no listing that can be read is there. */
export async function readTreeSizes(path: string): Promise<Map<string, number> | undefined> {
  try {
    const tree = JSON.parse(await readFile(path, 'utf8')) as {
      format_version?: unknown
      files?: Record<string, { size?: unknown; lfs_size?: unknown }>
    }
    if (tree.format_version !== FORMAT_VERSION || typeof tree.files !== 'object') return undefined
    const sizes = new Map<string, number>()
    for (const [name, { size, lfs_size }] of Object.entries(tree.files)) {
      const bytes = lfs_size ?? size
      if (typeof bytes !== 'number') return undefined
      sizes.set(name, bytes)
    }
    return sizes
  } catch {
    return undefined // not there, or damaged: the caller does without
  }
}

/** Writes a listing, sorted by name. */
export async function writeTree(
  path: string,
  entries: Readonly<Record<string, TreeEntry>>,
): Promise<void> {
  const files = Object.fromEntries(
    Object.entries(entries).sort(([a], [b]) => (a < b ? -1 : Number(a > b))),
  )
  await writeAtomically(path, JSON.stringify({ format_version: FORMAT_VERSION, files }, null, 1))
}

/** Writes a small file so that whoever reads it sees all of it, or what was there before. */
export async function writeAtomically(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const temporary = `${path}.${randomUUID().slice(0, 8)}.tmp`
  try {
    await writeFile(temporary, text, { flush: true })
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}
