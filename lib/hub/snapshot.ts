/** A commit's folder: what is complete in it, and how the blobs get there. */
import { randomUUID } from 'node:crypto'
import { copyFile, link, mkdir, readdir, rename, rm, stat, symlink } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { findWeightFiles } from '../checkpoint/weight-files.js'
import { CheckpointError } from '../errors.js'
import { isCommit, PARTIAL_ENDING, type ModelLayout } from './layout.js'
import { neededSmallFiles } from './needed-files.js'
import type { RemoteFile } from './remote-file.js'
import { readTreeSizes } from './tree-file.js'

/** Where a file of a commit is, whole: in its blob or in the snapshot; undefined where it is not. */
export async function findFile(
  layout: ModelLayout,
  commit: string,
  { name, hash, size }: RemoteFile,
): Promise<string | undefined> {
  // The snapshot's may be the file itself, where links cannot be made.
  for (const path of [layout.blob(hash), join(layout.snapshot(commit), name)]) {
    if ((await sizeOf(path)) === size) return path
  }
  return undefined
}

/** Puts a blob into the folder of a commit. */
export async function linkFile(
  layout: ModelLayout,
  commit: string,
  { name, hash, size }: RemoteFile,
  symlinks: boolean,
): Promise<void> {
  const folder = layout.snapshot(commit)
  await mkdir(folder, { recursive: true })
  const path = join(folder, name)
  if ((await sizeOf(path)) === size) return
  const blob = layout.blob(hash)
  const draft = join(folder, `.${name}.${randomUUID().slice(0, 8)}.tmp`)
  try {
    await place(blob, draft, relative(folder, blob), symlinks)
    await rename(draft, path)
  } catch (error) {
    await rm(draft, { force: true })
    throw error
  }
}

/** A relative link; where there are none, a second name of the file; where neither, a copy. */
async function place(blob: string, path: string, target: string, symlinks: boolean): Promise<void> {
  if (symlinks) {
    try {
      await symlink(target, path, 'file')
      return
    } catch (error) {
      // Windows without the right to make links, and file systems that know none.
      if (!/^(EPERM|EACCES|ENOSYS|ENOTSUP|EOPNOTSUPP|EINVAL|UNKNOWN)$/.test(codeOf(error)))
        throw error
    }
  }
  await link(blob, path).catch(() => copyFile(blob, path))
}

/**
 * The folder of a commit if a model can be loaded from it: all the files it needs are there, whole.
 *
 * @returns undefined where something is missing.
 */
export async function completeSnapshot(
  layout: ModelLayout,
  commit: string,
): Promise<string | undefined> {
  if (!isCommit(commit)) return undefined
  const folder = layout.snapshot(commit)
  if ((await sizeOf(join(folder, 'config.json'))) === undefined) return undefined
  let weights
  try {
    weights = await findWeightFiles(folder)
  } catch (error) {
    if (error instanceof CheckpointError) return undefined
    throw error
  }
  // A listing says what else belongs to the commit, and how long the files are.
  const sizes = await readTreeSizes(layout.tree(commit))
  if (!sizes) return (await hasCommonFiles(folder)) ? folder : undefined
  const listed = [...sizes].map(([name, size]) => ({ name, size }))
  const needed = neededSmallFiles(listed).map(({ name }) => name)
  for (const name of [...needed, ...weights.map((path) => relative(folder, path))]) {
    if ((await sizeOf(join(folder, name))) !== sizes.get(name)) return undefined
  }
  return folder
}

/** The commit of a revision and its folder, if a model can be loaded from it. */
export async function completeRevision(
  layout: ModelLayout,
  revision: string,
): Promise<{ commit: string; folder: string } | undefined> {
  const commit = await layout.commitOf(revision)
  const folder = commit === undefined ? undefined : await completeSnapshot(layout, commit)
  return commit === undefined || folder === undefined ? undefined : { commit, folder }
}

/** Without a listing, as older versions of the Python package leave it: what every Qwen2-VL has. */
async function hasCommonFiles(folder: string): Promise<boolean> {
  const has = async (name: string) => (await sizeOf(join(folder, name))) !== undefined
  const tokenizer =
    (await has('tokenizer.json')) || ((await has('vocab.json')) && (await has('merges.txt')))
  const processor = (await has('preprocessor_config.json')) || (await has('processor_config.json'))
  return tokenizer && processor
}

/** Removes what processes that were killed have left, except the parts of files: those go on. */
export async function sweepLeftovers(layout: ModelLayout): Promise<void> {
  const names = await readdir(layout.blobs).catch(() => []) // nothing yet
  const partials = new Set(names.filter((name) => name.endsWith(PARTIAL_ENDING)))
  for (const name of names) {
    const ofParts = /^(\w+)\.qwen2vl\.parts(\.\w+\.tmp)?$/.exec(name)
    if (!ofParts || (!ofParts[2] && partials.has(`${ofParts[1]}${PARTIAL_ENDING}`))) continue
    await rm(join(layout.blobs, name), { force: true })
  }
}

/** Bytes of a regular file, links followed; undefined where there is none. */
export async function sizeOf(path: string): Promise<number | undefined> {
  const info = await stat(path).catch(() => undefined) // not there, or a link to nothing
  return info?.isFile() ? info.size : undefined
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? ''
}
