/** The interfaces of the two hubs: which files a revision of a model has, and where they are. */
import { createHash } from 'node:crypto'
import { DownloadError, ModelNotFoundError } from '../errors.js'
import {
  isTransientStatus,
  openUrl,
  readText,
  transientAnswer,
  withRetries,
  type Answer,
  type HubClient,
} from './http.js'
import { isCommit } from './layout.js'
import type { RemoteFile, RemoteTree } from './remote-file.js'
import type { TreeEntry } from './tree-file.js'

const MAX_LIST_BYTES = 64 << 20
/** A repository of checkpoints has a few hundred files. */
const MAX_PAGES = 100

/** Lists the files of a model. */
export function listFiles(client: HubClient, id: string): Promise<RemoteTree> {
  return client.settings.source === 'modelscope'
    ? listModelScope(client, id)
    : listHuggingFace(client, id)
}

async function listHuggingFace(client: HubClient, id: string): Promise<RemoteTree> {
  const { endpoint, revision } = client.settings
  const api = `${endpoint}/api/models/${id}`
  const infoUrl = `${api}/revision/${encodeURIComponent(revision)}`
  const { body: info } = await getJson(client, id, infoUrl)
  const commit = stringField(info, 'sha')
  if (commit === undefined || !isCommit(commit)) throw strange(infoUrl, 'no commit')
  const files: RemoteFile[] = []
  const entries: Record<string, TreeEntry> = {}
  let next: string | undefined = `${api}/tree/${commit}?recursive=true&expand=false`
  for (let page = 0; next !== undefined && page < MAX_PAGES; page++) {
    const url: string = next
    const answer = await getJson(client, id, url)
    if (!Array.isArray(answer.body)) throw strange(url, 'no list of files')
    for (const item of answer.body as unknown[]) {
      if (stringField(item, 'type') !== 'file') continue
      const name = stringField(item, 'path')
      const entry = toEntry(item)
      if (name === undefined || !entry) throw strange(url, 'a file without size or hash')
      entries[name] = entry
      if (!isRootName(name)) continue
      files.push({
        name,
        size: entry.lfs_size ?? entry.size,
        algorithm: entry.lfs_sha256 === undefined ? 'git' : 'sha256',
        hash: entry.lfs_sha256 ?? entry.blob_id,
        url: `${endpoint}/${id}/resolve/${commit}/${encodeURIComponent(name)}`,
      })
    }
    next = nextPage(answer.link, endpoint)
  }
  return { commit, files, entries }
}

function toEntry(item: unknown): TreeEntry | undefined {
  const blobId = stringField(item, 'oid')
  const size = sizeField(item, 'size')
  if (blobId === undefined || !/^[0-9a-f]{40}$/.test(blobId) || size === undefined) return undefined
  const entry: TreeEntry = { size, blob_id: blobId }
  const lfs = (item as { lfs?: unknown }).lfs
  if (typeof lfs === 'object' && lfs !== null) {
    const sha256 = stringField(lfs, 'oid')
    const lfsSize = sizeField(lfs, 'size')
    if (sha256 === undefined || !isSha256(sha256) || lfsSize === undefined) return undefined
    entry.lfs_sha256 = sha256
    entry.lfs_size = lfsSize
  }
  const xetHash = stringField(item, 'xetHash')
  if (xetHash !== undefined) entry.xet_hash = xetHash
  return entry
}

/** The address of the next page in a `Link` header; it must be the endpoint's own. */
function nextPage(link: string | null, endpoint: string): string | undefined {
  const url = /<([^>]+)>\s*;\s*rel="?next"?/.exec(link ?? '')?.[1]
  if (url === undefined) return undefined
  const next = URL.canParse(url, endpoint) ? new URL(url, endpoint) : undefined
  if (next?.origin !== new URL(endpoint).origin) throw strange(endpoint, 'a next page elsewhere')
  return next.href
}

/**
 * ModelScope names no commit for a whole listing, so one is made up from what is in it: the same files give the
 * same name.
 */
async function listModelScope(client: HubClient, id: string): Promise<RemoteTree> {
  const { endpoint, revision } = client.settings
  const api = `${endpoint}/api/v1/models/${id}/repo`
  const url = `${api}/files?Revision=${encodeURIComponent(revision)}&Recursive=true`
  const { body } = await getJson(client, id, url)
  const list = (body as { Data?: { Files?: unknown } } | null)?.Data?.Files
  if (!Array.isArray(list)) throw strange(url, 'no list of files')
  const files: RemoteFile[] = []
  for (const item of list as unknown[]) {
    const name = stringField(item, 'Path')
    if (stringField(item, 'Type') === 'tree' || name === undefined || !isRootName(name)) continue
    const size = sizeField(item, 'Size')
    const hash = stringField(item, 'Sha256')
    if (size === undefined || hash === undefined || !isSha256(hash)) {
      if (/^\.git/.test(name)) continue
      throw strange(url, `no size or SHA-256 of ${name}`)
    }
    // The file's own last commit pins what comes to what was listed.
    const pinned = stringField(item, 'Revision') ?? revision
    const query = `Revision=${encodeURIComponent(pinned)}&FilePath=${encodeURIComponent(name)}`
    files.push({ name, size, algorithm: 'sha256', hash, url: `${api}?${query}` })
  }
  const contents = files.map(({ name, hash }) => `${name} ${hash}\n`).sort()
  const commit = createHash('sha1').update(contents.join('')).digest('hex')
  const entries = Object.fromEntries(
    files.map(({ name, size, hash }): [string, TreeEntry] => [
      name,
      { size, blob_id: hash.slice(0, 40), lfs_sha256: hash, lfs_size: size },
    ]),
  )
  return { commit, files, entries }
}

async function getJson(
  client: HubClient,
  id: string,
  url: string,
): Promise<{ body: unknown; link: string | null }> {
  return withRetries(client, async (signal, { alive }) => {
    const answer = await openUrl(client, url, { accept: 'application/json' }, signal)
    const { response } = answer
    if (!response.ok) throw await refusal(client, id, answer)
    const text = await readText(answer, MAX_LIST_BYTES, alive)
    try {
      return { body: JSON.parse(text) as unknown, link: response.headers.get('link') }
    } catch {
      throw strange(url, 'something that is not JSON')
    }
  })
}

/** The error that an answer of the hub means; a transient one where another try may help. */
export async function refusal(client: HubClient, id: string, answer: Answer): Promise<Error> {
  const { response, url, fromEndpoint } = answer
  const { status } = response
  // Elsewhere than at the endpoint addresses are signed for a while: the next try gets a new one.
  if (isTransientStatus(status) || !fromEndpoint) return transientAnswer(answer)
  const problem = response.headers.get('x-error-code')
  await response.body?.cancel()
  const { endpoint, revision, source, token } = client.settings
  const details = { id, url, status, revision }
  const variable = source === 'modelscope' ? 'MODELSCOPE_API_TOKEN' : 'HF_TOKEN'
  const way =
    token === undefined
      ? `set ${variable} (or the option token) to an access token that may read it`
      : 'check that the access token in use may read it'
  if (problem === 'GatedRepo') {
    return new DownloadError(
      'ERR_DOWNLOAD_GATED',
      `${id} is gated: its owner wants its conditions to be accepted. Accept them at ${endpoint}/${id} and ${way}.`,
      { details },
    )
  }
  if (problem === 'RevisionNotFound') {
    return new ModelNotFoundError(
      `${id} has no revision '${revision}' at ${endpoint}. Leave the revision out, or name a branch, tag or commit it has.`,
      { details },
    )
  }
  // Hubs do not tell those who may not see a model that it exists.
  if (status === 404 || status === 401) {
    return new ModelNotFoundError(
      `There is no model ${id} at ${endpoint} that may be read (status ${status}). Check the name; if it is ` +
        `private or gated, ${way}.`,
      { details },
    )
  }
  return new DownloadError(
    status === 403 ? 'ERR_DOWNLOAD_FORBIDDEN' : 'ERR_DOWNLOAD_STATUS',
    `${url} answers with status ${status}. ${status === 403 ? `To read ${id}, ${way}.` : 'Check the endpoint.'}`,
    { details },
  )
}

function strange(url: string, what: string): DownloadError {
  const address = url.split('?')[0] ?? url
  return new DownloadError(
    'ERR_DOWNLOAD_ANSWER',
    `${address} gives ${what}; it does not behave like the hub. Check the endpoint and the option source.`,
    { details: { url: address } },
  )
}

/** A plain name in the root, which can be put into a folder as it is. */
function isRootName(name: string): boolean {
  return /^[\w.+-]+$/.test(name) && !/^\.+$/.test(name)
}

function isSha256(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text)
}

function stringField(value: unknown, key: string): string | undefined {
  const field = (value as Record<string, unknown> | null | undefined)?.[key]
  return typeof field === 'string' ? field : undefined
}

function sizeField(value: unknown, key: string): number | undefined {
  const field = (value as Record<string, unknown> | null | undefined)?.[key]
  return Number.isSafeInteger(field) && (field as number) >= 0 ? (field as number) : undefined
}
