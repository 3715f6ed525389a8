/**
 * Fetches images and videos from web addresses that strangers may have chosen. The connection goes to
 * the very address that was checked, so that a name cannot change its meaning between check and use;
 * every redirect is a new address to check; nothing is read beyond its limits.
 */
import type { IncomingMessage } from 'node:http'
import type { FetchError } from '../errors.js'
import { decodedBody } from './fetch-body.js'
import { FetchGuard } from './fetch-guard.js'
import { fetchError } from './fetch-error.js'
import { checkUrl, redirectTarget, request, systemNetwork, type Network } from './fetch-request.js'
import type { MediaOptions } from './media-options.js'
import { sniff, SNIFFED_BYTES } from './sniff.js'

/** Redirects that are followed. */
const MAX_REDIRECTS = 5

/** What a fetch may ask for and how much it may take. */
export interface FetchLimits extends Pick<
  MediaOptions,
  'allowUrls' | 'allowedHosts' | 'allowPrivateHosts'
> {
  /** Most bytes, as sent and as decoded. */
  maxBytes: number
  /** For everything from the first look-up to the last byte. */
  timeoutMs: number
  /** For any wait within. Default: 10 s. */
  idleTimeoutMs?: number
  /** What the content must be, judged by its first bytes; headers are not believed. */
  expect: 'image' | 'video'
}

/**
 * The bytes behind an address.
 *
 * @throws FetchError; the signal's reason.
 */
export async function fetchMedia(
  url: string | URL,
  limits: FetchLimits,
  signal?: AbortSignal,
  network: Network = systemNetwork,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  for await (const chunk of streamMedia(url, limits, signal, network)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/**
 * The same as they come. Leaving the loop closes the connection.
 *
 * @throws FetchError; the signal's reason.
 */
export async function* streamMedia(
  url: string | URL,
  limits: FetchLimits,
  signal?: AbortSignal,
  network: Network = systemNetwork,
): AsyncGenerator<Uint8Array, void, undefined> {
  const first = checkUrl(url, limits, network)
  const guard = new FetchGuard(first, limits, signal)
  try {
    const { response, url: last } = await follow(first, limits, guard, network)
    guard.location = last
    const body = limitedBody(response, last, limits, guard)
    yield* checkedContent(body, last, limits)
  } catch (error) {
    throw guard.explain(error)
  } finally {
    guard.close()
  }
}

interface Answer {
  response: IncomingMessage
  url: URL
}

/** Asks until the answer is no redirect. */
async function follow(
  url: URL,
  limits: FetchLimits,
  guard: FetchGuard,
  network: Network,
): Promise<Answer> {
  for (let redirects = 0; ; redirects++) {
    const response = await guard.wait(request(url, limits, guard, network))
    guard.attach(response)
    const { statusCode: status = 0 } = response
    if (status === 200 || status === 203) return { response, url }
    const { location } = response.headers
    response.destroy()
    if (![301, 302, 303, 307, 308].includes(status)) throw statusError(url, response)
    if (redirects === MAX_REDIRECTS) {
      const what = `redirects more than ${MAX_REDIRECTS} times`
      throw fetchError('ERR_FETCH_REDIRECTS', url, `${what}. Give the final address.`)
    }
    url = redirectTarget(url, location, limits, network)
    guard.location = url
  }
}

function statusError(
  url: URL,
  { statusCode: status = 0, statusMessage = '' }: IncomingMessage,
): FetchError {
  const wayOut =
    status === 401 || status === 403
      ? 'Fetch it with your credentials and pass the bytes.'
      : 'Check the address, or pass the bytes.'
  const shown = `${status} ${statusMessage.slice(0, 60)}`.trimEnd()
  return fetchError('ERR_FETCH_STATUS', url, `was answered with ${shown}. ${wayOut}`, { status })
}

/** The decoded body, refused as soon as it is known to be too large. */
async function* limitedBody(
  response: IncomingMessage,
  url: URL,
  { maxBytes }: FetchLimits,
  guard: FetchGuard,
): AsyncGenerator<Uint8Array, void, undefined> {
  const tooLarge = (what: string) =>
    fetchError(
      'ERR_FETCH_TOO_LARGE',
      url,
      `${what} the ${maxBytes.toLocaleString('en')} bytes that are accepted. Send a smaller file or raise the limit.`,
      { limit: maxBytes },
    )
  const announced = Number(response.headers['content-length'] ?? 0)
  if (announced > maxBytes) {
    throw tooLarge(`has ${announced.toLocaleString('en')} bytes, more than`)
  }
  const body = decodedBody(response, url, () => tooLarge('is longer than'), maxBytes)
  let size = 0
  for (;;) {
    const { done, value } = await guard.wait(body.next())
    if (done) return
    size += value.length
    if (size > maxBytes) throw tooLarge('is longer than')
    yield value
  }
}

/** Looks at the first bytes before it lets any through. */
async function* checkedContent(
  body: AsyncIterable<Uint8Array>,
  url: URL,
  { expect }: FetchLimits,
): AsyncGenerator<Uint8Array, void, undefined> {
  let head: Uint8Array[] | undefined = []
  let size = 0
  for await (const chunk of body) {
    if (head === undefined) {
      yield chunk
      continue
    }
    head.push(chunk)
    size += chunk.length
    if (size < SNIFFED_BYTES) continue
    const start = Buffer.concat(head)
    checkContent(start, url, expect)
    head = undefined
    yield start
  }
  if (head === undefined) return
  const whole = Buffer.concat(head)
  checkContent(whole, url, expect)
  yield whole
}

function checkContent(head: Uint8Array, url: URL, expect: FetchLimits['expect']): void {
  const { kind, name } = sniff(head)
  // Containers of videos are too many to know: what is no text and no still image, ffmpeg may try.
  if (expect === 'image' ? kind === 'image' : kind === 'video' || kind === 'unknown') return
  const article = expect === 'image' ? 'an image' : 'a video'
  throw fetchError(
    'ERR_FETCH_CONTENT',
    url,
    `gave ${name}, not ${article}. Give the address of the ${expect} itself.`,
    { content: name },
  )
}
