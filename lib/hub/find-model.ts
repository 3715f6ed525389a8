/** What the source of a model means: the bundled one, a folder, or a model of the hub. */
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DownloadError, InvalidArgumentError, ModelNotFoundError } from '../errors.js'
import { packageRoot } from '../package-root.js'
import { download, notCached, type DownloadControls } from './download-model.js'
import { isModelId, ModelLayout } from './layout.js'
import { hubSettings, type HubOptions } from './settings.js'
import { completeRevision } from './snapshot.js'

/**
 * The folder that `source` means. A model that is complete in the cache is taken from there without a look at the
 * network; else it is downloaded.
 *
 * @throws ModelNotFoundError for a model that is not to be had; InvalidArgumentError for what is no source.
 * @throws DownloadError as `downloadModel()`.
 */
export async function findModelFolder(
  source: string | URL,
  options: HubOptions = {},
  controls: DownloadControls = {},
): Promise<string> {
  const local = localFolder(source)
  if (local.id === undefined) return local.folder
  const settings = await hubSettings(options)
  const layout = new ModelLayout(settings.cacheDir, local.id)
  const cached = await completeRevision(layout, settings.revision)
  if (cached !== undefined) return cached.folder
  try {
    if (settings.offline) throw notCached(layout, settings)
    return (await download(local.id, settings, controls)).folder
  } catch (error) {
    throw withFolder(error, local.folder)
  }
}

/** A misspelt path may look like an id: says that the folder was looked for as well. */
function withFolder(error: unknown, folder: string): unknown {
  const isMissing = error instanceof ModelNotFoundError
  if (!isMissing && !(error instanceof DownloadError && error.code === 'ERR_DOWNLOAD_NETWORK')) {
    return error
  }
  const message = `There is no folder ${folder}. ${error.message}`
  const options = { cause: error, details: { ...error.details, folder } }
  return isMissing
    ? new ModelNotFoundError(message, options)
    : new DownloadError('ERR_DOWNLOAD_NETWORK', message, { ...options, resumable: true })
}

/** A folder, and the id that the source is if there is no such folder. */
function localFolder(source: string | URL): { folder: string; id?: string } {
  if (source instanceof URL || (typeof source === 'string' && /^\w{2,}:/.test(source))) {
    return { folder: fromUrl(source) }
  }
  if (typeof source !== 'string' || source === '') {
    throw new InvalidArgumentError(
      `The source of a model must be the path of a checkpoint folder, the id of a model such as ` +
        `'Qwen/Qwen2-VL-2B-Instruct', or 'tiny' for the bundled one.`,
      { path: 'source' },
    )
  }
  if (source === 'tiny') return { folder: join(packageRoot, 'models', 'qwen2-vl-tiny') }
  const folder = resolve(source)
  return isModelId(source) && !existsSync(folder) ? { folder, id: source } : { folder }
}

function fromUrl(source: string | URL): string {
  const url = URL.canParse(String(source)) ? new URL(source) : undefined
  if (url?.protocol === 'file:') return fileURLToPath(url)
  throw new ModelNotFoundError(
    `A model is not loaded from the address ${String(source)}. Give the path of a folder, or the id of a model of ` +
      "the hub, such as 'Qwen/Qwen2-VL-2B-Instruct'.",
    { details: { source: String(source) } },
  )
}
