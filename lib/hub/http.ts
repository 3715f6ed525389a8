/** Requests to a hub: redirects by hand, so that the token stays at home; retries; stalled connections. */
import { setTimeout as delay } from 'node:timers/promises'
import { DownloadError } from '../errors.js'
import type { HubSettings } from './settings.js'

/** What requests share. */
export interface HubClient {
  settings: HubSettings
  /** The end of the whole download. */
  signal: AbortSignal
  timing: HubTiming
}

/** Times in milliseconds. */
export interface HubTiming {
  /** A connection that brings nothing for so long is given up. */
  stallMs: number
  /** The first wait before another try; it doubles. */
  backoffMs: number
  /** So many tries without a byte of progress. */
  tries: number
  /** A server that wants a longer wait than this ends the download instead. */
  maxRetryAfterMs: number
}

export const DEFAULT_TIMING: HubTiming = {
  stallMs: 30_000,
  backoffMs: 400,
  tries: 6,
  maxRetryAfterMs: 120_000,
}

/** Something that another try may cure. */
export class TransientError extends Error {
  override readonly name = 'TransientError'
  readonly status: number | undefined
  readonly retryAfterMs: number | undefined

  constructor(
    message: string,
    readonly url: string,
    options: { cause?: unknown; status?: number; retryAfterMs?: number | undefined } = {},
  ) {
    super(message, { cause: options.cause })
    this.status = options.status
    this.retryAfterMs = options.retryAfterMs
  }
}

/** An answer, and what the endpoint said on the way to it. */
export interface Answer {
  response: Response
  /** Without the query. */
  url: string
  /** False for an answer of a server that the endpoint redirected to. */
  fromEndpoint: boolean
  /** The hash of the file as the endpoint knows it, where it says. */
  linkedEtag: string | undefined
}

const MAX_REDIRECTS = 10

/** One request that follows redirects. Any status may come back. */
export async function openUrl(
  { settings }: HubClient,
  url: string,
  headers: Record<string, string>,
  signal: AbortSignal,
): Promise<Answer> {
  const home = new URL(settings.endpoint).origin
  let target = new URL(url)
  let linkedEtag: string | undefined
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const atHome = target.origin === home
    const response = await fetch(target, {
      redirect: 'manual',
      // Ranges and sizes are of the file itself, so nothing may be compressed on the way.
      headers: {
        ...headers,
        'accept-encoding': 'identity',
        'user-agent': 'qwen2-vl',
        ...(atHome && authorization(settings)),
      },
      signal,
    }).catch((cause: unknown) => {
      if (signal.aborted) throw signal.reason
      throw new TransientError(reasonOf(cause), withoutQuery(target), { cause })
    })
    if (atHome) linkedEtag = response.headers.get('x-linked-etag') ?? linkedEtag
    const location = response.headers.get('location')
    if (response.status < 300 || response.status > 399 || location === null) {
      const etag = linkedEtag?.replace(/^W\//, '').replaceAll('"', '')
      return { response, url: withoutQuery(target), fromEndpoint: atHome, linkedEtag: etag }
    }
    await response.body?.cancel()
    target = nextHop(location, target)
  }
  throw new TransientError('it redirects without end', withoutQuery(target))
}

function nextHop(location: string, from: URL): URL {
  const next = URL.canParse(location, from.href) ? new URL(location, from) : undefined
  const downgrade = from.protocol === 'https:' && next?.protocol === 'http:'
  if (!next || !/^https?:$/.test(next.protocol) || downgrade) {
    throw new DownloadError(
      'ERR_DOWNLOAD_REDIRECT',
      `${withoutQuery(from)} redirects to ${next ? withoutQuery(next) : 'nowhere'}, which is not followed: ` +
        'only http and https are, and https is not left. Check the endpoint.',
      { details: { url: withoutQuery(from) } },
    )
  }
  return next
}

function authorization({ token, source }: HubSettings): Record<string, string> {
  if (token === undefined) return {}
  // ModelScope takes an access token as the cookie of a session.
  const cookie = source === 'modelscope' ? { cookie: `m_session_id=${token}` } : {}
  return { authorization: `Bearer ${token}`, ...cookie }
}

/** How an attempt says that it goes on. */
export interface Pulse {
  /** Bytes come. */
  alive: () => void
  /** Some are on the disk and will not be asked for again: whatever fails next has all tries anew. */
  progress: () => void
}

/**
 * Tries until it works. `attempt` gets a signal for its own requests.
 *
 * @throws DownloadError, resumable, when it does not work in the end; whatever is not transient at once.
 */
export async function withRetries<T>(
  { signal, timing }: HubClient,
  attempt: (signal: AbortSignal, pulse: Pulse) => Promise<T>,
): Promise<T> {
  for (let failures = 1; ; failures++) {
    const stalled = new AbortController()
    const timer = setTimeout(() => stalled.abort(), timing.stallMs)
    const alive = () => void timer.refresh()
    const pulse = { alive, progress: () => void (failures = 1) }
    let error: TransientError
    try {
      return await attempt(AbortSignal.any([signal, stalled.signal]), pulse)
    } catch (thrown) {
      signal.throwIfAborted()
      if (stalled.signal.aborted) {
        const seconds = timing.stallMs / 1000
        error = new TransientError(`nothing came for ${seconds} s`, urlOf(thrown))
      } else if (thrown instanceof TransientError) error = thrown
      else throw thrown
    } finally {
      clearTimeout(timer)
    }
    const wait = error.retryAfterMs ?? backoff(timing.backoffMs, failures)
    if (failures >= timing.tries || wait > timing.maxRetryAfterMs) throw gaveUp(error, failures)
    await delay(wait, undefined, { signal }).catch(() => signal.throwIfAborted())
  }
}

/** Doubles, up to 20 s; a random part keeps many clients from coming back at one moment. */
function backoff(firstMs: number, failures: number): number {
  return Math.min(firstMs * 2 ** (failures - 1), 20_000) * (0.75 + Math.random() / 2)
}

function gaveUp(error: TransientError, failures: number): DownloadError {
  const code = error.status === undefined ? 'ERR_DOWNLOAD_NETWORK' : 'ERR_DOWNLOAD_STATUS'
  const wait =
    error.retryAfterMs === undefined
      ? ''
      : ` The server asks to wait ${Math.ceil(error.retryAfterMs / 1000)} s.`
  return new DownloadError(
    code,
    `${error.url || 'The hub'} could not be read: ${error.message} (${failures} ${failures === 1 ? 'try' : 'tries'}).${wait} ` +
      'Check the network, the proxy or HF_ENDPOINT and start again: what is there already is kept.',
    {
      cause: error,
      resumable: true,
      details: { url: error.url, ...(error.status !== undefined && { status: error.status }) },
    },
  )
}

/** Statuses that another try may cure. */
export function isTransientStatus(status: number): boolean {
  return status === 408 || status === 425 || status === 429 || status >= 500
}

/** The transient error of an answer, with the wait the server asks for. */
export async function transientAnswer({ response, url }: Answer): Promise<TransientError> {
  await response.body?.cancel()
  return new TransientError(`it answers with status ${response.status}`, url, {
    status: response.status,
    retryAfterMs: parseRetryAfter(response.headers.get('retry-after')),
  })
}

/** `Retry-After` in milliseconds: a number of seconds, or a date. */
export function parseRetryAfter(value: string | null, now = Date.now()): number | undefined {
  if (value === null) return undefined
  if (/^\d+$/.test(value.trim())) return Number(value) * 1000
  const date = Date.parse(value)
  return Number.isNaN(date) ? undefined : Math.max(0, date - now)
}

/** The body as text, refused beyond `maxBytes`. */
export async function readText(
  { response, url }: Answer,
  maxBytes: number,
  alive: () => void,
): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  try {
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      alive()
      bytes += chunk.length
      if (bytes > maxBytes) break
      chunks.push(chunk)
    }
  } catch (cause) {
    throw new TransientError(`the connection broke (${reasonOf(cause)})`, url, { cause })
  }
  if (bytes <= maxBytes) return Buffer.concat(chunks).toString()
  throw new DownloadError(
    'ERR_DOWNLOAD_ANSWER',
    `${url} answers with more than ${maxBytes.toLocaleString('en')} bytes, which is no list of files. Check the endpoint.`,
    { details: { url } },
  )
}

/** Address without credentials and query: signed addresses are secrets. */
export function withoutQuery(url: URL | string): string {
  const { origin, pathname } = new URL(url)
  return origin + pathname
}

/** What fetch knows about a failure is in its cause. */
export function reasonOf(error: unknown): string {
  const { cause, message } = error as Error
  if (cause instanceof Error) {
    const { code } = cause as NodeJS.ErrnoException
    return cause.message || code || message
  }
  return message
}

function urlOf(error: unknown): string {
  return error instanceof TransientError ? error.url : ''
}
