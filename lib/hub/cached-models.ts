/** What is in the cache, and how to be rid of it. */
import { randomUUID } from 'node:crypto'
import { lstat, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { readJsonFile } from '../checkpoint/files.js'
import { parseOptions } from '../generation/parse-options.js'
import { diskError } from './disk-space.js'
import { checkModelId, isCommit, ModelLayout, PARTIAL_ENDING } from './layout.js'
import { acquireLock } from './lock.js'
import { hubCacheFolder, hubOptionsShape, type HubSource } from './settings.js'
import { completeSnapshot } from './snapshot.js'

const { source, cacheDir } = hubOptionsShape
const optionsSchema = z.strictObject({ source, cacheDir })

/**
 * Which cache is meant.
 *
 * @interface
 */
export type CacheOptions = z.input<typeof optionsSchema>

/** A Qwen2-VL in the cache, whoever downloaded it. */
export interface CachedModel {
  /** `owner/name`. */
  id: string
  source: HubSource
  /** Its commit; undefined where only parts of its files have come so far. */
  commit: string | undefined
  /** The branches and tags that were this commit when they were last looked at. */
  revisions: string[]
  /** The folder of the checkpoint; of a model without a commit, the one all its files are kept in. */
  folder: string
  /** Of the whole model on the disk, with all its commits. */
  bytes: number
  /** Whether it can be loaded without the network. */
  complete: boolean
}

/** Lists the Qwen2-VL models in the cache, by name; of each all commits. Without `source`, of both sources. */
export async function listModels(options: CacheOptions = {}): Promise<CachedModel[]> {
  const { source: only, cacheDir: given } = parseOptions(optionsSchema, options, {
    what: 'listModels() options',
    example: "{ cacheDir: '/models' }",
  })
  const models: CachedModel[] = []
  for (const origin of ['huggingface', 'modelscope'] as const) {
    if (only !== undefined && only !== origin) continue
    const folder = hubCacheFolder({ cacheDir: given, source: origin })
    for (const name of await namesIn(folder)) {
      const layout = ModelLayout.fromFolderName(folder, name)
      if (layout) models.push(...(await commitsOf(layout, origin)))
    }
  }
  return models
}

async function commitsOf(layout: ModelLayout, origin: HubSource): Promise<CachedModel[]> {
  const bytes = await bytesIn(layout.folder)
  const refs = await readRefs(layout)
  const models: CachedModel[] = []
  for (const commit of (await namesIn(layout.snapshots)).filter(isCommit)) {
    const folder = layout.snapshot(commit)
    if (!(await isQwen2VL(folder))) continue
    const revisions = refs.filter((ref) => ref.commit === commit).map(({ name }) => name)
    const complete = (await completeSnapshot(layout, commit)) !== undefined
    models.push({ id: layout.id, source: origin, commit, revisions, folder, bytes, complete })
  }
  // A download of ours that has not come far enough to have a folder.
  const isComing = (await namesIn(layout.blobs)).some((name) => name.endsWith(PARTIAL_ENDING))
  if (models.length > 0 || !isComing) return models
  const { id, folder } = layout
  return [{ id, source: origin, commit: undefined, revisions: [], folder, bytes, complete: false }]
}

async function isQwen2VL(folder: string): Promise<boolean> {
  const config = await readJsonFile(folder, 'config.json').catch(() => undefined) // damaged: not one
  return config?.['model_type'] === 'qwen2_vl'
}

async function readRefs(layout: ModelLayout): Promise<{ name: string; commit: string }[]> {
  const entries = await readdir(layout.refs, { recursive: true }).catch(() => []) // none
  const refs: { name: string; commit: string }[] = []
  for (const entry of entries) {
    const name = entry.replaceAll('\\', '/')
    const commit = await layout.commitOf(name)
    if (commit !== undefined && !isCommit(name)) refs.push({ name, commit })
  }
  return refs.sort((a, b) => (a.name < b.name ? -1 : 1))
}

/**
 * Removes a model from the cache, with all its commits and what has come of unfinished downloads. Waits for a
 * download of it in another process.
 *
 * @returns how many bytes that freed; 0 when it was not there.
 */
export async function removeModel(
  id: string,
  options: CacheOptions & { signal?: AbortSignal } = {},
): Promise<number> {
  checkModelId(id, 'removeModel()')
  const { signal = new AbortController().signal, ...rest } = options
  const checked = parseOptions(optionsSchema, rest, {
    what: 'removeModel() options',
    example: "{ cacheDir: '/models' }",
  })
  const layout = new ModelLayout(hubCacheFolder(checked), id)
  const bytes = await bytesIn(layout.folder)
  if ((await namesIn(layout.folder)).length === 0) return 0
  try {
    const lock = await acquireLock(layout.lockFile, signal)
    try {
      // At once under another name: nobody may find half of it.
      const away = `${layout.folder}.${randomUUID().slice(0, 8)}.removed`
      await rename(layout.folder, away)
      await rm(away, { recursive: true, force: true })
    } finally {
      await lock.release()
    }
  } catch (error) {
    signal.throwIfAborted()
    throw diskError(error, layout.folder)
  }
  return bytes
}

/** Sorted; none where there is no such folder. */
async function namesIn(folder: string): Promise<string[]> {
  return (await readdir(folder).catch(() => [])).sort() // no such folder
}

/** Of all files below a folder; links count as what they are. */
async function bytesIn(folder: string): Promise<number> {
  const counted = new Set<number>()
  let bytes = 0
  for (const name of await readdir(folder, { recursive: true }).catch(() => [])) {
    const info = await lstat(join(folder, name)).catch(() => undefined) // gone since
    // A file with two names is there once.
    if (!info?.isFile() || (info.nlink > 1 && counted.has(info.ino))) continue
    counted.add(info.ino)
    bytes += info.size
  }
  return bytes
}
