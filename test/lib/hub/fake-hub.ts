/**
 * A server that behaves like the hub: an API, addresses of files that redirect large ones to a second server on
 * another port, hashes in headers. Tests break it on purpose.
 */
import { createHash } from 'node:crypto'
import { readFile, readdir } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { packageRoot } from '../../../lib/package-root.js'

/** A file of the fake repository. */
export interface HubFile {
  bytes: Buffer
  lfs: boolean
}

/** A request as it came. */
export interface SeenRequest {
  server: 'hub' | 'cdn'
  method: string
  path: string
  range: string | undefined
  authorization: string | undefined
}

/** What a test lets go wrong. Answers true if it has answered itself. */
export type Trouble = (
  request: IncomingMessage,
  response: ServerResponse,
  server: 'hub' | 'cdn',
) => boolean | Promise<boolean>

const hashes = new WeakMap<Uint8Array, string>()

/** Computed once for each buffer. */
export function sha256(bytes: Uint8Array): string {
  const hash = hashes.get(bytes) ?? createHash('sha256').update(bytes).digest('hex')
  hashes.set(bytes, hash)
  return hash
}

export const gitHash = (bytes: Uint8Array) =>
  createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')

const TINY = join(packageRoot, 'models', 'qwen2-vl-tiny')

/** The bundled checkpoint with what else a repository has. */
export async function tinyFiles(): Promise<Map<string, HubFile>> {
  const files = new Map<string, HubFile>()
  for (const entry of await readdir(TINY, { withFileTypes: true })) {
    if (!entry.isFile()) continue
    const bytes = await readFile(join(TINY, entry.name))
    files.set(entry.name, { bytes, lfs: bytes.length > 1 << 20 })
  }
  files.set('pytorch_model.bin', { bytes: Buffer.alloc(1000, 1), lfs: true })
  files.set('model.gguf', { bytes: Buffer.alloc(1000, 2), lfs: true })
  files.set('images/cat.png', { bytes: Buffer.alloc(10), lfs: false })
  return files
}

export class FakeHub {
  id = 'owner/tiny'
  readonly seen: SeenRequest[] = []
  files: Map<string, HubFile>
  revisions = new Map<string, string>([['main', 'a'.repeat(40)]])
  /** A token that is wanted, if any. */
  token: string | undefined
  gated = false
  /** Bytes of a body that are sent at once, and the wait after them. */
  pace: { bytes: number; ms: number } | undefined
  ignoreRanges = false
  trouble: Trouble | undefined
  readonly #hub: Server
  readonly #cdn: Server

  private constructor(files: Map<string, HubFile>) {
    this.files = files
    this.#hub = createServer((request, response) => void this.#serve(request, response, 'hub'))
    this.#cdn = createServer((request, response) => void this.#serve(request, response, 'cdn'))
  }

  static async start(files?: Map<string, HubFile>): Promise<FakeHub> {
    const hub = new FakeHub(files ?? (await tinyFiles()))
    for (const server of [hub.#hub, hub.#cdn]) {
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    }
    return hub
  }

  get endpoint(): string {
    return address(this.#hub)
  }

  get cdn(): string {
    // Another name for the same machine: redirects lead to another host, not only to another port.
    return address(this.#cdn).replace('127.0.0.1', 'localhost')
  }

  /** How many bodies of the large files were asked for. */
  count(server: 'hub' | 'cdn', part: string): number {
    return this.seen.filter((request) => request.server === server && request.path.includes(part))
      .length
  }

  async close(): Promise<void> {
    for (const server of [this.#hub, this.#cdn]) {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  }

  async #serve(
    request: IncomingMessage,
    response: ServerResponse,
    server: 'hub' | 'cdn',
  ): Promise<void> {
    response.on('error', () => {}) // clients that were killed
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://x')
    const path = decodeURIComponent(pathname)
    this.seen.push({
      server,
      method: request.method ?? '',
      path,
      range: request.headers.range,
      authorization: request.headers.authorization,
    })
    if (await this.trouble?.(request, response, server)) return
    if (server === 'cdn') return this.#sendBlob(request, response, path.slice(1))
    if (this.token !== undefined && request.headers.authorization !== `Bearer ${this.token}`) {
      refuse(response, 401, this.gated ? 'GatedRepo' : 'RepoNotFound')
      return
    }
    if (path.startsWith('/api/v1/models/'))
      return this.#modelScope(request, response, path, searchParams)
    const info = new RegExp(`^/api/models/${this.id}/revision/(.+)$`).exec(path)
    const tree = new RegExp(`^/api/models/${this.id}/tree/(.+)$`).exec(path)
    const file = new RegExp(`^/${this.id}/resolve/([^/]+)/(.+)$`).exec(path)
    const revision = (info ?? tree ?? file)?.[1]
    if (revision === undefined) {
      refuse(response, 404, 'RepoNotFound')
      return
    }
    const commit = this.revisions.get(revision) ?? revision
    if (![...this.revisions.values()].includes(commit)) {
      refuse(response, 404, 'RevisionNotFound')
      return
    }
    if (info) {
      json(response, { id: this.id, modelId: this.id, sha: commit, siblings: [] })
      return
    }
    if (tree) {
      this.#sendTree(response, searchParams)
      return
    }
    const found = this.files.get(file?.[2] ?? '')
    if (!found) {
      refuse(response, 404, 'EntryNotFound')
      return
    }
    response.setHeader('x-repo-commit', commit)
    if (!found.lfs) {
      response.setHeader('etag', `"${gitHash(found.bytes)}"`)
      return this.#send(request, response, found.bytes)
    }
    const hash = sha256(found.bytes)
    response.writeHead(302, {
      location: `${this.cdn}/${hash}?signature=secret`,
      'x-linked-etag': `"${hash}"`,
      'x-linked-size': String(found.bytes.length),
    })
    response.end()
  }

  /** In pages of six, as the hub has them of a thousand. */
  #sendTree(response: ServerResponse, query: URLSearchParams): void {
    const all = [...this.files].map(([path, { bytes, lfs }]) => ({
      type: 'file',
      path,
      oid: gitHash(lfs ? Buffer.from(`pointer to ${sha256(bytes)}`) : bytes),
      size: bytes.length,
      ...(lfs && { lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 134 } }),
    }))
    const at = Number(query.get('cursor') ?? 0)
    if (at + 6 < all.length) {
      const next = `${this.endpoint}/api/models/${this.id}/tree/${this.revisions.get('main')}?recursive=true&cursor=${at + 6}`
      response.setHeader('link', `<${next}>; rel="next"`)
    }
    json(response, [
      ...(at === 0 ? [{ type: 'directory', path: 'images', oid: 'f'.repeat(40), size: 0 }] : []),
      ...all.slice(at, at + 6),
    ])
  }

  #modelScope(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    query: URLSearchParams,
  ): void | Promise<void> {
    if (query.get('Revision') !== 'master' && query.get('Revision') !== 'b'.repeat(40)) {
      refuse(response, 404, '')
      return
    }
    if (path === `/api/v1/models/${this.id}/repo/files`) {
      const files = [...this.files].map(([name, { bytes }]) => ({
        Name: name.split('/').at(-1),
        Path: name,
        Type: 'blob',
        Size: bytes.length,
        Sha256: sha256(bytes),
        Revision: 'b'.repeat(40),
      }))
      json(response, { Code: 200, Success: true, Data: { Files: files } })
      return
    }
    const found = this.files.get(query.get('FilePath') ?? '')
    if (path !== `/api/v1/models/${this.id}/repo` || !found) {
      refuse(response, 404, '')
      return
    }
    return this.#send(request, response, found.bytes)
  }

  #sendBlob(
    request: IncomingMessage,
    response: ServerResponse,
    hash: string,
  ): void | Promise<void> {
    const found = [...this.files.values()].find(({ lfs, bytes }) => lfs && sha256(bytes) === hash)
    if (!found) {
      refuse(response, 404, '')
      return
    }
    response.setHeader('etag', '"of-the-cdn"')
    return this.#send(request, response, found.bytes)
  }

  async #send(request: IncomingMessage, response: ServerResponse, bytes: Buffer): Promise<void> {
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')
    let body = bytes
    if (range && !this.ignoreRanges) {
      const start = Number(range[1])
      const end = range[2] ? Number(range[2]) + 1 : bytes.length
      body = bytes.subarray(start, end)
      response.statusCode = 206
      response.setHeader('content-range', `bytes ${start}-${end - 1}/${bytes.length}`)
    }
    response.setHeader('content-length', body.length)
    if (request.method === 'HEAD') return void response.end()
    const { pace } = this
    if (!pace) return void response.end(body)
    for (let at = 0; at < body.length && !response.destroyed; at += pace.bytes) {
      response.write(body.subarray(at, at + pace.bytes))
      await new Promise((resolve) => setTimeout(resolve, pace.ms))
    }
    response.end()
  }
}

function address(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function json(response: ServerResponse, value: unknown): void {
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify(value))
}

function refuse(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, code === '' ? {} : { 'x-error-code': code })
  response.end(JSON.stringify({ error: code }))
}
