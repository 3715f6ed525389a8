/** Whether models can be downloaded: the cache folder and its disk. */
import { access, constants, stat, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { bytesText } from '../bytes-text.js'
import { listModels } from '../hub/cached-models.js'
import { hubCacheFolder, hubSettings } from '../hub/settings.js'
import type { Finding } from './finding.js'

/** The 2B checkpoint. */
const LEAST_FREE = 4.5e9

/** The cache folder that the environment names, whether it can be written, and what is in it. */
export async function cacheFinding(): Promise<Finding> {
  const folder = hubCacheFolder({})
  const there = await nearestFolder(folder)
  const isFolder = (await stat(there)).isDirectory()
  const writable = isFolder && (await succeeds(access(there, constants.W_OK)))
  const { bavail, bsize } = await statfs(there)
  const freeBytes = bavail * bsize
  const models = await listModels({ source: 'huggingface' })
  // Each commit of a model is listed with the bytes of the whole.
  const usedBytes = sum([...new Map(models.map(({ id, bytes }) => [id, bytes])).values()])
  const { hasToken, endpoint } = await settings()
  const problem = !writable
    ? `${there} ${isFolder ? 'cannot be written' : 'is no folder'}`
    : freeBytes < LEAST_FREE
      ? 'the disk has less room than the 2B checkpoint needs, 4.5 GB'
      : undefined
  const complete = models.filter((model) => model.complete)
  return {
    topic: 'cache',
    status: problem === undefined ? 'ok' : 'warning',
    summary:
      `${folder}${there === folder ? '' : ' (not there yet)'}: ${problem ? `${problem}; ` : ''}` +
      `${complete.length} complete model${complete.length === 1 ? '' : 's'}, ${bytesText(usedBytes)}; ` +
      `${bytesText(freeBytes)} free`,
    ...(problem !== undefined && {
      remedy: 'Choose another folder with HF_HOME or the option cacheDir, or make room.',
    }),
    facts: {
      folder,
      writable,
      freeBytes,
      usedBytes,
      models: complete.map(({ id, commit }) => ({ id, commit })),
      endpoint,
      hasToken,
    },
  }
}

/** Never the token itself. */
async function settings(): Promise<{ endpoint: string | null; hasToken: boolean | string }> {
  try {
    const { token, endpoint } = await hubSettings({})
    return { endpoint, hasToken: token !== undefined }
  } catch (error) {
    return { endpoint: null, hasToken: (error as Error).message }
  }
}

async function nearestFolder(folder: string): Promise<string> {
  for (let at = folder; ; at = dirname(at)) {
    if ((await succeeds(access(at))) || dirname(at) === at) return at
  }
}

async function succeeds(promise: Promise<unknown>): Promise<boolean> {
  return promise.then(
    () => true,
    () => false, // that is the answer
  )
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
