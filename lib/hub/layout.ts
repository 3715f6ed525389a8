/**
 * The names of the cache's folders and files, which it shares with Python's huggingface_hub:
 *
 *     models--owner--name/refs/main                    the commit that a branch or tag was last
 *     models--owner--name/trees/<commit>.json          all files of a commit
 *     models--owner--name/snapshots/<commit>/<file>    links into blobs/
 *     models--owner--name/blobs/<hash>                 the files
 *     models--owner--name/blobs/<hash>.qwen2vl.incomplete, .qwen2vl.parts    while they come
 *     .locks/models--owner--name/qwen2-vl.lock
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { InvalidArgumentError } from '../errors.js'

const idPart = String.raw`[A-Za-z0-9](?:[\w.-]{0,95})`
const idPattern = new RegExp(`^${idPart}/${idPart}$`)

/** True for `owner/name` as hubs allow it. */
export function isModelId(text: string): boolean {
  return idPattern.test(text) && !/--|\.\./.test(text)
}

/** @throws InvalidArgumentError for what is no `owner/name`. */
export function checkModelId(id: unknown, what: string): string {
  if (typeof id === 'string' && isModelId(id)) return id
  const found = typeof id === 'string' ? `'${id.slice(0, 80)}'` : typeof id
  throw new InvalidArgumentError(
    `${what}: the model is ${found}; owner/name was expected, such as Qwen/Qwen2-VL-2B-Instruct.`,
    { path: 'id' },
  )
}

/** True for the full name of a commit. */
export function isCommit(text: string): boolean {
  return /^[0-9a-f]{40}$/.test(text)
}

/** What separates owner and name in the names of folders. */
const SEPARATOR = '--'
const PREFIX = `models${SEPARATOR}`

/** The paths of one model in one cache. */
export class ModelLayout {
  readonly folder: string
  readonly blobs: string
  readonly snapshots: string
  readonly refs: string
  readonly lockFile: string

  constructor(
    readonly cacheDir: string,
    readonly id: string,
  ) {
    const name = PREFIX + id.replace('/', SEPARATOR)
    this.folder = join(cacheDir, name)
    this.blobs = join(this.folder, 'blobs')
    this.snapshots = join(this.folder, 'snapshots')
    this.refs = join(this.folder, 'refs')
    this.lockFile = join(cacheDir, '.locks', name, 'qwen2-vl.lock')
  }

  /** The model whose folder is called `name`; undefined where it is not a model's. */
  static fromFolderName(cacheDir: string, name: string): ModelLayout | undefined {
    if (!name.startsWith(PREFIX)) return undefined
    const id = name.slice(PREFIX.length).replace(SEPARATOR, '/')
    return isModelId(id) ? new ModelLayout(cacheDir, id) : undefined
  }

  snapshot(commit: string): string {
    return join(this.snapshots, commit)
  }

  tree(commit: string): string {
    return join(this.folder, 'trees', `${commit}.json`)
  }

  ref(revision: string): string {
    return join(this.refs, ...revision.split('/'))
  }

  blob(hash: string): string {
    return join(this.blobs, hash)
  }

  /**
   * The bytes of a blob that are there so far, in places. Not `<hash>.incomplete`: older versions of the
   * Python package take that for the beginning of the file, without holes, and go on writing at its end.
   */
  partial(hash: string): string {
    return `${this.blob(hash)}${PARTIAL_ENDING}`
  }

  /** Which bytes of the partial file are there. */
  parts(hash: string): string {
    return `${this.blob(hash)}.qwen2vl.parts`
  }

  /** The commit that `revision` was when it was last looked at; undefined when it never was. */
  async commitOf(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision
    const text = await readFile(this.ref(revision), 'utf8').catch(() => '') // no such ref
    return isCommit(text.trim()) ? text.trim() : undefined
  }
}

/** How the names of files that are still coming end. */
export const PARTIAL_ENDING = '.qwen2vl.incomplete'
