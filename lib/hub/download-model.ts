/** Downloads a model into the cache that Python's huggingface_hub uses as well. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { parseConfig } from '../checkpoint/config.js'
import { readQuantizerFile } from '../checkpoint/quantization-config.js'
import { parseJsonObject } from '../checkpoint/files.js'
import { DownloadError, ModelNotFoundError } from '../errors.js'
import { Limiter } from '../generation/limiter.js'
import { parseOptions } from '../generation/parse-options.js'
import { checkDiskSpace, diskError } from './disk-space.js'
import { DEFAULT_TIMING, type HubClient, type HubTiming } from './http.js'
import { checkModelId, isCommit, ModelLayout } from './layout.js'
import { readSpans } from './ledger.js'
import { acquireLock } from './lock.js'
import { indexFileOf, neededSmallFiles, neededWeights } from './needed-files.js'
import { ProgressMeter, type DownloadProgress } from './progress.js'
import type { RemoteFile, RemoteTree } from './remote-file.js'
import { hubOptionsShape, hubSettings, type HubSettings } from './settings.js'
import { completeRevision, findFile, linkFile, sizeOf, sweepLeftovers } from './snapshot.js'
import { listFiles } from './sources.js'
import { allOrNone, fetchBlob, type TransferContext } from './transfer.js'
import { writeAtomically, writeTree } from './tree-file.js'

const optionsSchema = z.strictObject({
  ...hubOptionsShape,
  /** Requests at a time. Default: 8. */
  connections: z.int().min(1).max(64).optional(),
  /** Aborts the download: it rejects with `signal.reason`, and goes on from there the next time. */
  signal: z.instanceof(AbortSignal).optional(),
  /** Called about twenty times a second. */
  onProgress: z
    .custom<(progress: DownloadProgress) => void>((value) => typeof value === 'function', {
      error: 'must be a function',
    })
    .optional(),
})

/**
 * How to download a model. Everything has a default.
 *
 * @interface
 */
export type DownloadModelOptions = z.input<typeof optionsSchema>

/** A model that is on the disk. */
export interface DownloadedModel {
  /** `owner/name`. */
  id: string
  /** What was asked for. */
  revision: string
  /** Which commit that is; of ModelScope a hash of what is in it. */
  commit: string
  /** The folder of the checkpoint, for `loadModel()`. */
  folder: string
  /** Names of its files. */
  files: string[]
  /** Of its files. */
  bytes: number
  /** Of them, what this call has downloaded. */
  downloadedBytes: number
}

const DEFAULT_CONNECTIONS = 8

/**
 * Downloads a model from the Hugging Face hub or ModelScope, or brings it up to date. What is there already is not
 * downloaded again; a download that ended early goes on where it ended. The files are checked against the hub's
 * hashes, and the revision is the new one only when all of them are there.
 *
 * @param id `owner/name`, such as `Qwen/Qwen2-VL-2B-Instruct`.
 * @throws ModelNotFoundError when the hub has no such model or revision, or does not show it.
 * @throws UnsupportedModelError before its weights are downloaded, when it is not a Qwen2-VL.
 * @throws DownloadError, ChecksumError when it cannot be had. `resumable` says whether to try again.
 */
export async function downloadModel(
  id: string,
  options: DownloadModelOptions = {},
): Promise<DownloadedModel> {
  checkModelId(id, 'downloadModel()')
  const checked = parseOptions(optionsSchema, options, {
    what: 'downloadModel() options',
    example: "{ revision: 'main' }",
  })
  const settings = await hubSettings(checked)
  return download(id, settings, checked)
}

/** What a download needs besides the settings. */
export interface DownloadControls {
  connections?: number | undefined
  signal?: AbortSignal | undefined
  onProgress?: ((progress: DownloadProgress) => void) | undefined
  timing?: HubTiming
}

/** {@link downloadModel} with the options decided. */
export async function download(
  id: string,
  settings: HubSettings,
  controls: DownloadControls = {},
): Promise<DownloadedModel> {
  const layout = new ModelLayout(settings.cacheDir, id)
  if (settings.offline) return cachedModel(layout, settings)
  const end = new AbortController()
  const signals = [end.signal, ...(controls.signal ? [controls.signal] : [])]
  const client: HubClient = {
    settings,
    signal: AbortSignal.any(signals),
    timing: controls.timing ?? DEFAULT_TIMING,
  }
  client.signal.throwIfAborted()
  const meter = new ProgressMeter((progress) => {
    try {
      controls.onProgress?.(progress)
    } catch (error) {
      end.abort(error) // a callback that fails ends the download
    }
  })
  meter.phase('list')
  const tree = await listFiles(client, id)
  const lock = await acquireLock(layout.lockFile, client.signal, () => meter.phase('wait')).catch(
    (error: unknown) => {
      client.signal.throwIfAborted()
      throw diskError(error, layout.lockFile)
    },
  )
  const onLost = () => end.abort(lostLock(layout))
  lock.lost.addEventListener('abort', onLost, { once: true })
  try {
    const slots = new Limiter(controls.connections ?? DEFAULT_CONNECTIONS)
    const model = await fetchModel(tree, { client, layout, meter, slots })
    client.signal.throwIfAborted()
    meter.phase('ready')
    client.signal.throwIfAborted()
    return model
  } catch (error) {
    client.signal.throwIfAborted()
    throw diskError(error, layout.folder)
  } finally {
    lock.lost.removeEventListener('abort', onLost)
    await lock.release()
  }
}

/**
 * The model as it is in the cache.
 *
 * @throws ModelNotFoundError when it is not, or not complete.
 */
async function cachedModel(layout: ModelLayout, settings: HubSettings): Promise<DownloadedModel> {
  const { revision } = settings
  const found = await completeRevision(layout, revision)
  if (found === undefined) throw notCached(layout, settings)
  const { commit, folder } = found
  return { ...(await describe(layout, commit, folder)), revision, downloadedBytes: 0 }
}

/** Offline, and not there. */
export function notCached(layout: ModelLayout, { revision }: HubSettings): ModelNotFoundError {
  return new ModelNotFoundError(
    `${layout.id} (revision ${revision}) is not complete in the cache ${layout.cacheDir}, and the network is ` +
      `left alone (offline or HF_HUB_OFFLINE). Download it first: qwen2-vl download ${layout.id}`,
    { details: { id: layout.id, revision, cacheDir: layout.cacheDir } },
  )
}

async function describe(layout: ModelLayout, commit: string, folder: string) {
  const files = (await readdir(folder)).filter((name) => !name.startsWith('.')).sort()
  let bytes = 0
  for (const name of files) bytes += (await sizeOf(join(folder, name))) ?? 0
  return { id: layout.id, commit, folder, files, bytes }
}

/** With the lock held: the small files, then the weights, then the folder of the commit, then its name. */
async function fetchModel(tree: RemoteTree, context: TransferContext): Promise<DownloadedModel> {
  const { layout, client, meter } = context
  const { commit, files } = tree
  const { revision, symlinks } = client.settings
  await markCache(layout.cacheDir)
  await sweepLeftovers(layout)
  const small = neededSmallFiles(files)
  meter.total(sumOf([...small, ...neededWeights(files).files]))
  let downloadedBytes = await fetchFiles(small, commit, context)
  const weights = await chooseWeights(tree, small, context)
  const needed = [...small, ...weights]
  meter.total(sumOf(needed))
  downloadedBytes += await fetchFiles(weights, commit, context)

  await writeTree(layout.tree(commit), tree.entries)
  // A folder without config.json is no checkpoint, so that comes last.
  const last = needed.filter(({ name }) => name === 'config.json')
  for (const file of [...needed.filter(({ name }) => name !== 'config.json'), ...last]) {
    client.signal.throwIfAborted()
    await linkFile(layout, commit, file, symlinks)
  }
  if (!isCommit(revision)) await writeAtomically(layout.ref(revision), commit)
  const folder = layout.snapshot(commit)
  const names = needed.map(({ name }) => name).sort()
  const bytes = sumOf(needed)
  return { id: layout.id, revision, commit, folder, files: names, bytes, downloadedBytes }
}

/** Downloads those that are not there. @returns how many bytes came. */
async function fetchFiles(
  files: readonly RemoteFile[],
  commit: string,
  context: TransferContext,
): Promise<number> {
  const { layout, meter, client } = context
  const missing: RemoteFile[] = []
  let bytes = 0
  for (const file of files) {
    const isThere = (await findFile(layout, commit, file)) !== undefined
    meter.file(file.name, isThere ? file.size : 0, file.size)
    if (isThere || missing.some(({ hash }) => hash === file.hash)) continue
    missing.push(file)
    bytes += file.size - (await partialBytes(layout, file))
  }
  await checkDiskSpace(layout.blobs, bytes)
  meter.phase('download')
  await allOrNone(client, missing, (file, inner) => fetchBlob(file, { ...context, client: inner }))
  return bytes
}

async function partialBytes(layout: ModelLayout, { hash }: RemoteFile): Promise<number> {
  const size = (await sizeOf(layout.partial(hash))) ?? 0
  const spans = await readSpans(layout.parts(hash), size)
  return spans.reduce((sum, { start, end }) => sum + end - start, 0)
}

/** The weight files, once the small files say that this is a model that can be loaded. */
async function chooseWeights(
  { commit, files }: RemoteTree,
  small: readonly RemoteFile[],
  { layout, client }: TransferContext,
): Promise<RemoteFile[]> {
  const read = async (name: string) => {
    const file = small.find((candidate) => candidate.name === name)
    const path = file && (await findFile(layout, commit, file))
    return path === undefined ? undefined : parseJsonObject(await readFile(path, 'utf8'), path)
  }
  const where = `${layout.id} at ${client.settings.endpoint}`
  const details = { id: layout.id }
  const config = await read('config.json')
  if (config === undefined) {
    throw new DownloadError(
      'ERR_DOWNLOAD_NO_CHECKPOINT',
      `${where} has no config.json, so it is not a checkpoint. Name a repository with one, such as Qwen/Qwen2-VL-2B-Instruct.`,
      { details },
    )
  }
  const quantizerFile = await readQuantizerFile(where, read)
  parseConfig(config, `${where}/config.json`, quantizerFile) // throws for what cannot be loaded
  const { files: weights, missing } = neededWeights(files, (await read(indexFileOf(files))) ?? {})
  if (weights.length > 0 && missing.length === 0) return weights
  throw new DownloadError(
    'ERR_DOWNLOAD_NO_CHECKPOINT',
    weights.length === 0
      ? `${where} has no safetensors weights, and other formats are not read. Choose the repository with the checkpoint as published.`
      : `${where} lacks ${missing.length} of the weight files its index names (${missing[0]}). Tell its owner, or choose another revision.`,
    { details },
  )
}

function sumOf(files: readonly RemoteFile[]): number {
  return files.reduce((sum, { size }) => sum + size, 0)
}

/** Tells backups that the folder can be made again, as the Python package does. */
async function markCache(cacheDir: string): Promise<void> {
  await mkdir(cacheDir, { recursive: true })
  const text = 'Signature: 8a477f597d28d172789f06886806bc55\n# A cache of models.\n'
  await writeFile(join(cacheDir, 'CACHEDIR.TAG'), text, { flag: 'wx' }).catch(() => {}) // there already
}

function lostLock({ lockFile }: ModelLayout): DownloadError {
  return new DownloadError(
    'ERR_DOWNLOAD_LOCK',
    `This process slept so long that another took over its lock ${lockFile} and downloads the model now. Start again.`,
    { resumable: true, details: { path: lockFile } },
  )
}
